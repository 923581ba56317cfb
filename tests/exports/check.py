#!/usr/bin/env python3
"""Reads tallyd's exports and its archive with DuckDB, and compares them with PostgreSQL to the last digit.

A daemon with a private PostgreSQL is filled with the demonstration's traffic of ten weeks. `tallyd export` writes calls as Parquet,
and costs as FOCUS in both forms; whole months are archived and dropped. Each sum of DuckDB is that of PostgreSQL.

    tests/exports/check.py target/debug/tallyd [SECONDS]
"""

import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import duckdb

PATIENCE = 120
# Sums that are compared, in both dialects. A day is in UTC, as the daemon's.
BY_MODEL = """SELECT provider, model, count(*), sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL), sum(input_tokens),
    sum(output_tokens), sum(cache_read_tokens), count(DISTINCT user_id) FROM {calls} GROUP BY 1, 2 ORDER BY 1, 2"""
BY_DAY = """SELECT strftime(occurred_at AT TIME ZONE 'UTC', '%Y-%m-%d') AS day, count(*), sum(cost_usd) FROM {calls} GROUP BY 1 ORDER BY 1"""
ONE_USER = "SELECT count(*), sum(cost_usd), min(id::text), max(id::text) FROM {calls} WHERE user_id = 'user-00001'"


def of_postgres(sql):
    return sql.replace("strftime(occurred_at AT TIME ZONE 'UTC', '%Y-%m-%d')", "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')")


def plain(value):
    """A value as text, decimals without zeros at their end."""
    text = "" if value is None else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


class Daemon:
    def __init__(self, program, folder):
        self.program = str(pathlib.Path(program).resolve())
        self.folder = folder
        self.environment = {
            **os.environ,
            "TALLYD_DATA_DIR": str(folder / "data"),
            "TALLYD_SOCKET": str(folder / "tallyd.sock"),
            "TALLYD_HTTP_LISTEN": "127.0.0.1:0",
            "TALLYD_RETENTION_ARCHIVE": str(folder / "archive"),
        }
        # The private PostgreSQL may run as another user.
        folder.chmod(0o755)
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen([self.program], env=self.environment, cwd=folder, stderr=self.log, stdout=self.log)

    def run(self, *words):
        return subprocess.run([self.program, *words], env=self.environment, cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def rows(self, sql):
        out = self.run("psql", "-X", "-A", "-t", "-F", "\t", "-c", of_postgres(sql))
        return [[plain(cell) for cell in line.split("\t")] for line in out.splitlines()]

    def end(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"error: not within {PATIENCE} s: {what}")
        time.sleep(0.2)


def of_duckdb(duck, sql):
    return [[plain(cell) for cell in row] for row in duck.execute(sql).fetchall()]


def compare(what, found, expected):
    if found != expected:
        print(f"FAILED {what}: DuckDB has", *found[:5], "PostgreSQL has", *expected[:5], sep="\n", file=sys.stderr)
        sys.exit(1)
    print(f"{what}: {len(found)} rows are equal")


def main():
    program, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "5"
    with tempfile.TemporaryDirectory(prefix="tallyd-exports-") as name:
        folder = pathlib.Path(name)
        daemon = Daemon(program, folder)
        try:
            until("the daemon takes records", (folder / "tallyd.sock").exists)
            daemon.run("demo", "--backfill", "70", "--rate", "0", "--seconds", seconds, "--seed", "7")
            until("all is loaded", lambda: settled(daemon))
            check(daemon, folder, duckdb.connect())
        except BaseException:
            print((folder / "log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            daemon.end()


def settled(daemon):
    """There are calls, and no more of them within a second."""
    count = "SELECT count(*) FROM api_usage_log"
    try:
        before = daemon.rows(count)
        time.sleep(1)
        return before == daemon.rows(count) and before != [["0"]]
    except subprocess.CalledProcessError:
        # Records are accepted before the schema is there.
        return False


def check(daemon, folder, duck):
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = ["--from", str(today - datetime.timedelta(days=75)), "--to", str(today + datetime.timedelta(days=1))]
    calls = folder / "calls.parquet"
    daemon.run("export", "calls", *days, "--format", "parquet", "--out", str(calls))
    for what, sql in [("calls by model", BY_MODEL), ("calls by day", BY_DAY), ("calls of a user", ONE_USER)]:
        compare(what, of_duckdb(duck, sql.format(calls=f"'{calls}'")), daemon.rows(sql.format(calls="api_usage_log")))
    kinds = dict(duck.execute(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{calls}')").fetchall())
    wanted = {"cost_usd": "DECIMAL(38,18)", "occurred_at": "TIMESTAMP WITH TIME ZONE", "id": "UUID", "input_tokens": "BIGINT"}
    compare("types", [kinds[name] for name in wanted], list(wanted.values()))

    focus = "SELECT sum(BilledCost), sum(ConsumedQuantity), sum(x_UnpricedCalls), min(ChargePeriodStart)::text FROM {file}"
    expected = daemon.rows("SELECT sum(cost_usd), count(*), count(*) FILTER (WHERE cost_usd IS NULL) FROM api_usage_log")
    for form in ["parquet", "csv"]:
        out = folder / f"focus.{form}"
        daemon.run("export", "focus", *days, "--by", "app", "--format", form, "--out", str(out))
        file = f"'{out}'" if form == "parquet" else f"read_csv('{out}', types = {{'BilledCost': 'DECIMAL(38,18)'}})"
        found = of_duckdb(duck, focus.format(file=file))
        compare(f"FOCUS as {form}", [found[0][:3]], expected)

    month = f"{today:%Y-%m}-01"
    old = f"(SELECT * FROM api_usage_log WHERE occurred_at < '{month} 00:00Z') AS t"
    queries = [("archive by model", BY_MODEL), ("archive by day", BY_DAY), ("archive of a user", ONE_USER)]
    expected = [daemon.rows(sql.format(calls=old)) for _, sql in queries]
    began = time.monotonic()
    daemon.run("partitions", "drop", "--before", month, "--yes")
    seconds = time.monotonic() - began
    for (what, sql), rows in zip(queries, expected):
        compare(what, of_duckdb(duck, sql.format(calls=f"'{folder}/archive/*.parquet'")), rows)
    files = list((folder / "archive").glob("*.parquet"))
    archived = of_duckdb(duck, f"SELECT count(*) FROM '{folder}/archive/*.parquet'")[0][0]
    size = sum(file.stat().st_size for file in files)
    print(f"{archived} calls in {len(files)} files: {size / int(archived):.2f} bytes a call, dropped in {seconds:.1f} s")
    columns = f"SELECT path_in_schema, sum(total_compressed_size) / {archived} FROM parquet_metadata('{folder}/archive/*.parquet') GROUP BY 1 ORDER BY 2 DESC"
    print(*(f"  {name}: {size:.2f}" for name, size in duck.execute(columns).fetchall()[:12]), sep="\n")
    print(daemon.run("archive", "verify"), end="")
    print(daemon.run("reconcile"), end="")


main()
