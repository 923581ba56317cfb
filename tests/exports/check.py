#!/usr/bin/env python3
"""Reads tallyd's exports and its archive with DuckDB, and compares them with PostgreSQL to the last digit.

A daemon with a private PostgreSQL is filled with the demonstration's traffic of ten weeks. `tallyd export` writes calls as Parquet,
and costs as FOCUS in both forms; whole months are archived and dropped, the older ones into a folder, the last one into a bucket. Each
sum of DuckDB is that of PostgreSQL.

    tests/exports/check.py target/debug/tallyd [SECONDS]
"""

import datetime
import json
import pathlib
import resource
import sys
import tempfile
import time

import duckdb

from bucket import NAME, Service
from common import Daemon, compare, loaded, of_duckdb, of_guide, until

# Sums that are compared, in both dialects. A day is in UTC, as the daemon's.
BY_MODEL = """SELECT provider, model, count(*), sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL), sum(input_tokens),
    sum(output_tokens), sum(cache_read_tokens), count(DISTINCT user_id) FROM {calls} GROUP BY 1, 2 ORDER BY 1, 2"""
BY_DAY = """SELECT strftime(occurred_at AT TIME ZONE 'UTC', '%Y-%m-%d') AS day, count(*), sum(cost_usd) FROM {calls} GROUP BY 1 ORDER BY 1"""
ONE_USER = "SELECT count(*), sum(cost_usd), min(id::text), max(id::text) FROM {calls} WHERE user_id = 'user-00001'"


def main():
    program, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "5"
    with tempfile.TemporaryDirectory(prefix="tallyd-exports-") as name:
        folder = pathlib.Path(name)
        daemon = Daemon(program, folder)
        try:
            until("the daemon takes records", (folder / "tallyd.sock").exists)
            daemon.run("demo", "--backfill", "70", "--rate", "0", "--seconds", seconds, "--seed", "7")
            loaded(daemon)
            check(daemon, folder, duckdb.connect())
        except BaseException:
            print((folder / "log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            daemon.end()


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

    service = Service()
    try:
        archive(daemon, folder, duck, service, today)
    finally:
        service.end()


def archive(daemon, folder, duck, service, today):
    """Archives the older months into a folder and the last one into the bucket, and reads both."""
    duck_of_folder = duck
    # A month is not dropped on the first days after it.
    month = (today - datetime.timedelta(days=7)).replace(day=1)
    before = (month - datetime.timedelta(days=1)).replace(day=1)
    queries = [("by model", BY_MODEL), ("by day", BY_DAY), ("of a user", ONE_USER)]
    folder_files, bucket_files = f"'{folder}/archive/*.parquet'", f"'s3://{NAME}/tallyd/*.parquet'"
    in_bucket = service.settings("tallyd")
    for where, until_day, files, duck, settings in [
        ("folder", before, folder_files, duck, {}),
        ("bucket", month, bucket_files, service.duckdb(), in_bucket),
    ]:
        old = f"(SELECT * FROM api_usage_log WHERE occurred_at < '{until_day} 00:00Z') AS t"
        expected = [daemon.rows(sql.format(calls=old)) for _, sql in queries]
        began = time.monotonic()
        daemon.run("partitions", "drop", "--before", str(until_day), "--yes", **settings)
        seconds = time.monotonic() - began
        for (what, sql), rows in zip(queries, expected):
            compare(f"{where}, {what}", of_duckdb(duck, sql.format(calls=files)), rows)
        shape(duck, files, seconds)
    ids = {where: [one["id"] for one in listed(daemon) if exists(one["file"])] for where, exists in [
        ("folder", lambda name: (folder / "archive" / name).exists()),
        ("bucket", lambda name: service.files().exists(f"{NAME}/tallyd/{name}")),
    ]}
    print(daemon.run("archive", "verify", *map(str, ids["folder"])), end="")
    print(daemon.run("archive", "verify", *map(str, ids["bucket"]), **in_bucket), end="")
    table = daemon.run("archive", "restore", str(ids["bucket"][-1]), **in_bucket).strip()
    restored = daemon.rows(BY_MODEL.format(calls=table))
    name = next(one["file"] for one in listed(daemon) if one["id"] == ids["bucket"][-1])
    compare("restored", of_duckdb(service.duckdb(), BY_MODEL.format(calls=f"'s3://{NAME}/tallyd/{name}'")), restored)
    for statement in of_guide("DuckDB", {"/var/lib/tallyd-archive/": f"{folder}/archive/"}):
        rows = duck_of_folder.execute(statement).fetchall()
        print(f"guide: {len(rows)} rows: {statement.splitlines()[0][:80]}")
    print(daemon.run("doctor", **in_bucket).split("archive", 1)[1].splitlines()[0])
    print(daemon.run("reconcile"), end="")


def listed(daemon):
    return json.loads(daemon.run("archive", "list", "--json"))


def shape(duck, files, seconds):
    """Prints the bytes of a call, by column."""
    sizes = f"SELECT path_in_schema, sum(total_compressed_size) FROM parquet_metadata({files}) GROUP BY 1 ORDER BY 2 DESC"
    (calls,) = duck.execute(f"SELECT count(*) FROM {files}").fetchone()
    columns = duck.execute(sizes).fetchall()
    print(f"{calls} calls, {sum(size for _, size in columns) / calls:.2f} bytes a call, dropped in {seconds:.1f} s")
    print(f"no command had more than {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10} MiB")
    print(*(f"  {name}: {size / calls:.2f}" for name, size in columns[:14]), sep="\n")


main()
