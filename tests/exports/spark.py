#!/usr/bin/env python3
"""Reads a year of daily files of the archive with Spark, and compares sums with DuckDB and PostgreSQL to the last digit.

A daemon with a private PostgreSQL and partitions by day is filled with the demonstration's traffic of a year, and all days but the last
are archived and dropped. The statements of the guide run in Spark; those that both engines have give the same rows.

    tests/exports/spark.py target/debug/tallyd [SECONDS]
"""

import datetime
import pathlib
import sys
import tempfile

import duckdb
from pyspark.sql import SparkSession

from common import Daemon, compare, loaded, of_duckdb, of_guide, plain, until

# By day and model, in the three dialects.
SUMS = """SELECT {day} AS day, model, count(*) AS calls, sum(cost_usd) AS cost_usd, sum(input_tokens) AS input, sum(output_tokens) AS output
    FROM {calls} GROUP BY 1, 2 ORDER BY 1, 2"""


def rows(spark, sql):
    return [[plain(cell) for cell in row] for row in spark.sql(sql).collect()]


def check(daemon, folder, today):
    expected = daemon.rows(
        SUMS.format(day="to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", calls=f"(SELECT * FROM api_usage_log WHERE occurred_at < '{today} 00:00Z') AS t")
    )
    daemon.run("partitions", "drop", "--before", str(today), "--yes")
    files = list((folder / "archive").glob("*.parquet"))
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files)} bytes")
    duck = duckdb.connect()
    found = of_duckdb(
        duck,
        SUMS.format(day="strftime(occurred_at AT TIME ZONE 'UTC', '%Y-%m-%d')", calls=f"'{folder}/archive/*.parquet'"),
    )
    compare("DuckDB by day and model", found, expected)

    builder = SparkSession.builder.master("local[2]").appName("tallyd").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "4")
    spark = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse")).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    make, *statements = of_guide("Spark", {"/var/lib/tallyd-archive": str(folder / "archive")})
    spark.sql(make)
    compare("Spark by day and model", rows(spark, SUMS.format(day="date_format(occurred_at, 'yyyy-MM-dd')", calls="calls")), expected)
    view, by_month, by_user, *_ = of_guide("DuckDB", {"/var/lib/tallyd-archive": str(folder / "archive")})
    duck.execute(view)
    compare("the guide's months", rows(spark, statements[0]), of_duckdb(duck, by_month))
    compare("the guide's users", rows(spark, statements[1]), of_duckdb(duck, by_user))
    for statement in statements[2:]:
        print(f"guide: {len(rows(spark, statement))} rows: {statement.splitlines()[0][:80]}")
    spark.stop()


def main():
    program, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "5"
    today = datetime.datetime.now(datetime.timezone.utc).date()
    with tempfile.TemporaryDirectory(prefix="tallyd-spark-") as name:
        folder = pathlib.Path(name)
        daemon = Daemon(program, folder, TALLYD_LOG_TABLE_PARTITION="day")
        try:
            until("the daemon has its tables", lambda: made(daemon, today))
            daemon.run("demo", "--backfill", "365", "--rate", "0", "--seconds", seconds, "--seed", "7")
            loaded(daemon)
            # A day is not dropped on the first days after it.
            check(daemon, folder, today - datetime.timedelta(days=7))
            print(daemon.run("reconcile"), end="")
        except BaseException:
            print((folder / "log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            daemon.end()


def made(daemon, today):
    """Makes the partitions of a year; the schema may not be there yet."""
    year = ["--from", str(today - datetime.timedelta(days=366)), "--to", str(today + datetime.timedelta(days=1))]
    try:
        return len(daemon.run("partitions", "ensure", *year).splitlines()) > 360
    except RuntimeError:
        return False


main()
