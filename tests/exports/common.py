"""The daemon under test, and rows that are compared as text."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

PATIENCE = 120
GUIDE = pathlib.Path(__file__).parents[2] / "docs/guide/archive-queries.md"


def of_postgres(sql):
    return sql.replace("strftime(occurred_at AT TIME ZONE 'UTC', '%Y-%m-%d')", "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')")


def plain(value):
    """A value as text, decimals without zeros at their end."""
    text = "" if value is None else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


class Daemon:
    def __init__(self, program, folder, **settings):
        self.program = str(pathlib.Path(program).resolve())
        self.folder = folder
        self.environment = {
            **os.environ,
            "TALLYD_DATA_DIR": str(folder / "data"),
            "TALLYD_SOCKET": str(folder / "tallyd.sock"),
            "TALLYD_HTTP_LISTEN": "127.0.0.1:0",
            "TALLYD_RETENTION_ARCHIVE": str(folder / "archive"),
            **settings,
        }
        # The private PostgreSQL may run as another user.
        folder.chmod(0o755)
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen([self.program], env=self.environment, cwd=folder, stderr=self.log, stdout=self.log)

    def run(self, *words, **settings):
        ran = subprocess.run(
            [self.program, *words], env={**self.environment, **settings}, cwd=self.folder, capture_output=True, text=True
        )
        if ran.returncode != 0:
            raise RuntimeError(f"{words}: {ran.stdout} {ran.stderr}")
        return ran.stdout

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
        print(f"FAILED {what}: found", *found[:5], "expected", *expected[:5], sep="\n", file=sys.stderr)
        sys.exit(1)
    print(f"{what}: {len(found)} rows are equal")


def loaded(daemon):
    """Waits until each record that was acknowledged is in PostgreSQL, as long as their number falls."""
    fewest, end = None, 0
    while fewest != 0:
        waiting = json.loads(daemon.run("status", "--json"))["wal"]["unflushed_records"]
        if fewest is None or waiting < fewest:
            fewest, end = waiting, time.monotonic() + PATIENCE
        if time.monotonic() > end:
            sys.exit(f"error: {waiting} records are not loaded, and no record was in the last {PATIENCE} s")
        time.sleep(0.2)


def of_guide(engine, paths):
    """The guide's statements for an engine, with other paths."""
    blocks = re.findall(rf"```sql\n-- {engine}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    if not blocks:
        sys.exit(f"error: {GUIDE} has no statement for {engine}")
    for there, here in paths.items():
        blocks = [block.replace(there, here) for block in blocks]
    return [block.strip().rstrip(";") for block in blocks]
