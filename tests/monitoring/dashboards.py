#!/usr/bin/env python3
"""Runs every query of Grafana's dashboards and Prometheus' alerts on real servers, and checks each answer.

A daemon with a private PostgreSQL is filled with three months of calls, budgets and refused records; a real Prometheus
scrapes it under load. The SQL of every panel and annotation runs as the role tallyd_reader and returns rows. Its macros and
variables are expanded as Grafana's PostgreSQL source does: for each dimension with all values, with one value of each
variable, and with a value full of quotes. Every PromQL expression returns series, and every metric that is named exists.
Sums of today, of the month, of the last days and of chosen values are compared with rollups of known days. The files
themselves are checked for the fields of a dashboard of schema version 41, and for variables and views of the admin page
that do not exist. Without a program, this is the only check.

    tests/monitoring/dashboards.py [target/debug/tallyd]
"""

import csv
import datetime
import io
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))
PATIENCE = 120
# Series that exist only after a failure.
QUIET = {"tallyd_flush_failures_total"}
KINDS = {"stat", "timeseries", "table", "bargauge", "gauge", "row"}
VIEWS = set(re.findall(r'\{ id: "([\w-]+)"', (ROOT / "page/src/views/index.ts").read_text()))
# A value of a dimension may be any text.
QUOTES = "O'Brien \\' \"$1\" ; --"
faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        if time.monotonic() > end:
            sys.exit(f"error: not within {PATIENCE} s: {what}")
        time.sleep(0.2)
    return found


def free_port():
    """A port below those that the system gives to outgoing connections, so that none of these takes it first."""
    while True:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            except OSError:
                continue
            return one.getsockname()[1]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return None


def check_form(name, dashboard):
    """Checks the fields that Grafana needs to import a dashboard, and those that a reader needs to understand it."""
    for key, kind in (("title", str), ("uid", str), ("panels", list), ("templating", dict), ("time", dict)):
        if not isinstance(dashboard.get(key), kind):
            fault(name, f"{key} is missing")
    if dashboard["schemaVersion"] != 41:
        fault(name, f"schemaVersion is {dashboard['schemaVersion']}, not 41")
    if "id" in dashboard:
        fault(name, "it has the id of one Grafana")
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    sources = {one["name"] for one in variables.values() if one["type"] == "datasource"}
    check_links(name, dashboard)
    for used in set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard))) - set(variables):
        fault(name, f"there is no variable {used}")
    for variable in variables.values():
        if variable.get("includeAll") and variable["current"] != {"text": ["All"], "value": ["$__all"]}:
            fault(name, f"the variable {variable['name']} does not begin with all values")
    for source in [one["datasource"]["uid"] for one in [*variables.values(), *dashboard["annotations"]["list"]] if "datasource" in one]:
        if source.strip("${}") not in sources:
            fault(name, f"the source {source!r} of a variable or an annotation is not a variable of the dashboard")
    taken = {}
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        fault(name, "two panels have one id")
    for panel in dashboard["panels"]:
        where = f"{name}, {panel['title']!r}"
        if panel["type"] not in KINDS:
            fault(where, f"{panel['type']} is not a kind of panel that is used here")
        check_place(where, panel, taken)
        if panel["type"] == "row":
            if panel["collapsed"] or panel["panels"] or panel["targets"]:
                fault(where, "a row is open, and the panels that follow are its own")
            continue
        if not panel.get("description"):
            fault(where, "it has no description")
        if not panel["fieldConfig"]["defaults"].get("unit"):
            fault(where, "it has no unit")
        for heading in re.findall(r'AS "(\w+)"', " ".join(target.get("rawSql", "") for target in panel["targets"])):
            if heading in {"Of", "Which", "A", "At"}:
                fault(where, f"the heading {heading!r} says nothing")
        for source in [panel["datasource"], *(target["datasource"] for target in panel["targets"])]:
            variable = re.fullmatch(r"\$\{(\w+)\}", source["uid"])
            if not variable or variable[1] not in sources:
                fault(where, f"the source {source['uid']!r} is not a variable of the dashboard")
    if dashboard["panels"][0]["type"] != "row":
        fault(name, "it does not begin with a row")


def check_place(where, panel, taken):
    place = panel["gridPos"]
    if place["x"] + place["w"] > 24:
        fault(where, "it reaches beyond the 24 columns")
    for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
        if cell in taken:
            fault(where, f"it lies on {taken[cell]!r}")
            break
        taken[cell] = panel["title"]


def check_links(name, dashboard):
    """Links lead to the other dashboards by a tag, or to a view of the admin page."""
    if [link["tags"] for link in dashboard["links"] if link["type"] == "dashboards"] != [dashboard["tags"]]:
        fault(name, "it does not link to the other dashboards")
    addresses = [link["url"] for link in dashboard["links"] if link["type"] == "link"]
    if not addresses:
        fault(name, "it does not link to the admin page")
    for panel in dashboard["panels"]:
        properties = [one for override in panel.get("fieldConfig", {}).get("overrides", []) for one in override["properties"]]
        links = [*panel.get("fieldConfig", {}).get("defaults", {}).get("links", []), *(one for each in properties if each["id"] == "links" for one in each["value"])]
        headings = set(re.findall(r'AS "(\w+)"', " ".join(target.get("rawSql", "") for target in panel["targets"])))
        for link in links:
            addresses.append(link["url"])
            for field in set(re.findall(r"__data\.fields\.(\w+)", link["url"])) - headings:
                fault(f"{name}, {panel['title']!r}", f"a link names the column {field}, which the panel does not have")
    for address in addresses:
        view = re.match(r"\$\{page:raw\}/#/([\w-]+)", address)
        if not view or view[1] not in VIEWS:
            fault(name, f"{address} is not a view of the admin page")


class Raw(str):
    """Text that Grafana puts into a query as it is: a variable's allValue."""


def expand(sql, values, begin, end):
    """Expands macros and variables as Grafana's PostgreSQL source does."""
    quoted = lambda text: "'" + text.replace("'", "''") + "'"
    sql = re.sub(r"\$__timeFilter\(([^)]*)\)", lambda m: f"{m[1]} BETWEEN '{begin}' AND '{end}'", sql)
    sql = sql.replace("$__timeFrom()", f"'{begin}'").replace("$__timeTo()", f"'{end}'")
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda m: values[m[1]] if isinstance(values[m[1]], Raw) else ",".join(quoted(one) for one in values[m[1]]), sql)
    if left := re.search(r"\$\{?\w+", re.sub(r"'(?:[^']|'')*'", "''", sql)):
        sys.exit(f"error: {left[0]} is not expanded by this test: {sql}")
    return sql


class Reader:
    """A session of psql that asks as Grafana's role, each time in a transaction of its own that is rolled back."""

    END = "(end of the answer)"

    def __init__(self, tallyd):
        self.psql = subprocess.Popen([tallyd, "psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def rows(self, sql, before=""):
        """Runs SQL as tallyd_reader, after the statements in `before`. Returns rows of text, the header's first."""
        copy = lambda what, form="": f"COPY ({what}) TO STDOUT{form};"
        # psql flushes its output after each COPY.
        self.psql.stdin.write(
            f"BEGIN; {before} SET LOCAL ROLE tallyd_reader; SET TRANSACTION READ ONLY;\n{copy(sql, ' WITH (FORMAT csv, HEADER)')}\nROLLBACK;\n"
            + copy(f"SELECT '{self.END}'")
            + "\n"
        )
        self.psql.stdin.flush()
        lines = []
        while (line := self.psql.stdout.readline()) != f"{self.END}\n":
            if not line:
                sys.exit(f"error: psql ended: {''.join(lines)}")
            lines.append(line)
        if errors := [line.strip() for line in lines if re.match(r"(psql:\S* )?(ERROR|FATAL):", line)]:
            raise ValueError(errors[0])
        return list(csv.reader(io.StringIO("".join(lines))))

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()


def everything(variable, found):
    """All values, as Grafana expands them."""
    if not variable["includeAll"]:
        return found[:1]
    return Raw(variable["allValue"]) if variable.get("allValue") else found


def resolve(name, dashboard, reader, begin, end, pick):
    """The values of the dashboard's variables, in order, as `pick` chooses them of those that are found."""
    values = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["type"] != "prometheus":
            found = [row[0] for row in reader.rows(expand(variable["query"], values, begin, end))[1:]]
            if not found:
                fault(name, f"the variable {variable['name']} has no value")
            values[variable["name"]] = pick(variable, found)
    return values


def check_sql(name, dashboard, reader):
    now = datetime.datetime.now(datetime.timezone.utc)
    end = (now + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    begin = (now - datetime.timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if all(variable["type"] != "query" or variable["datasource"]["type"] == "prometheus" for variable in dashboard["templating"]["list"]):
        return 0
    # With each dimension, all values; then one value of each variable; then a text that only quotes keep together.
    of = lambda place: lambda variable, found: found[place : place + 1] or found[:1] if variable["name"] == "dimension" else everything(variable, found)
    one = lambda variable, found: found[:1]
    odd = lambda variable, found: [QUOTES, *found] if variable["includeAll"] else found[:1]
    asked = 0
    for what, pick, is_full in (("", of(0), True), (", second dimension", of(1), True), (", one value of each", one, False), (", with quotes", odd, False)):
        values = resolve(name + what, dashboard, reader, begin, end, pick)
        for annotation in dashboard["annotations"]["list"]:
            where = f"{name}, annotation {annotation['name']!r}{what}"
            asked += 1
            answer = ask(where, reader, annotation["target"]["rawSql"], values, begin, end)
            if answer is None:
                continue
            header, *found = answer
            if not {"time", "text", "tags"} <= set(header) <= {"time", "timeend", "text", "tags"}:
                fault(where, f"the columns are {header}")
            if any(cell == "" for row in found for cell in row):
                fault(where, "a cell is empty")
            if is_full and not found:
                fault(where, "the answer is empty")
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if "rawSql" not in target:
                    continue
                where = f"{name}, {panel['title']!r}{what}"
                asked += 1
                answer = ask(where, reader, target["rawSql"], values, begin, end)
                if answer is None:
                    continue
                header, *found = answer
                if is_full and (not found or all(cell == "" for row in found for cell in row)):
                    fault(where, "the answer is empty")
                if target["format"] == "time_series" and header != ["time", "metric", "value"]:
                    fault(where, f"a time series has the columns time, metric, value, not {header}")
    return asked


def ask(where, reader, sql, values, begin, end):
    try:
        return reader.rows(expand(sql, values, begin, end))
    except ValueError as error:
        fault(where, f"PostgreSQL says {error}")


# Rollups of known days: a temporary table hides the real one of its name. One call of one dollar a day, none today.
KNOWN_DAYS = """
    CREATE TEMP TABLE daily_api_costs (LIKE public.daily_api_costs INCLUDING DEFAULTS);
    GRANT SELECT ON daily_api_costs TO tallyd_reader;
    INSERT INTO daily_api_costs (day, provider, model, calls, cost_usd, unpriced_calls)
        SELECT (now() AT TIME ZONE 'UTC')::date - n, 'x', 'm', 1, 1, 0 FROM generate_series(1, 80) AS n;"""
TODAYS = "INSERT INTO daily_api_costs (day, provider, model, calls, cost_usd) VALUES ((now() AT TIME ZONE 'UTC')::date, 'x', 'm', 1, 1);"
# A dimension's known days: one call of each value a day.
KNOWN_VALUES = """
    CREATE TEMP TABLE daily_dimension_costs (LIKE public.daily_dimension_costs INCLUDING DEFAULTS);
    GRANT SELECT ON daily_dimension_costs TO tallyd_reader;
    INSERT INTO daily_dimension_costs (day, dimension, value, provider, model, calls, cost_usd)
        SELECT (now() AT TIME ZONE 'UTC')::date - n, d, v, 'x', 'm', 1, cost FROM generate_series(0, 80) AS n,
            (VALUES ('team', 'it''s', 2), ('team', '', 3), ('team', 'search', 5), ('app', 'web', 100)) AS of (d, v, cost);"""
# A model that two providers have, and unpriced calls.
ODD = """
    INSERT INTO daily_api_costs (day, provider, model, calls, cost_usd, unpriced_calls) VALUES ((now() AT TIME ZONE 'UTC')::date, 'y', 'm', 1, 5, 0),
        ((now() AT TIME ZONE 'UTC')::date, 'z', 'unknown', 2, 0, 2);"""


def check_sums(reader):
    """Today and the month are the calendar's, also before their first call; the last 30 days are 30."""
    panels = {panel["title"]: panel["targets"][0]["rawSql"] for panel in json.loads((ROOT / "grafana/dashboards/costs.json").read_text())["panels"] if panel["targets"]}
    values = {"provider": ["x", "y", "z"], "model": ["m", "unknown"], "zone": ["UTC"]}
    now = datetime.datetime.now(datetime.timezone.utc)
    form = lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ")
    ask = lambda title, before, begin=now, end=now: reader.rows(expand(panels[title], values, form(begin), form(end)), before)[1:]
    number = lambda *asked: float(ask(*asked)[0][0] or 0)
    hold = lambda what, found, expected: found == expected or fault(f"costs.json, {what}", f"{found}, not {expected}")
    hold("Today, before the first call", number("Today", KNOWN_DAYS), 0)
    hold("Today", number("Today", KNOWN_DAYS + TODAYS), 1)
    hold("Month to date", number("Month to date", KNOWN_DAYS + TODAYS), now.day)
    month = "DELETE FROM daily_api_costs WHERE day >= date_trunc('month', (now() AT TIME ZONE 'UTC')::date);"
    hold("Month to date, before the first call", number("Month to date", KNOWN_DAYS + month), 0)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = datetime.timedelta(days=1)
    ranges = [("30 days", now - 30 * day, now, 30), ("7 days", now - 7 * day, now, 7), ("an hour", now - day / 24, now, 1), ("yesterday", midnight - day, midnight - day / 86400, 1), ("this day", midnight, midnight + day - day / 86400, 1)]
    for what, begin, end, expected in ranges:
        hold(f"Calls in this range, {what}", number("Calls in this range", KNOWN_DAYS + TODAYS, begin, end), expected)
    models = {(row[0], row[1]): row[-1] for row in ask("Models", KNOWN_DAYS + TODAYS + ODD, now - day, now)}
    hold("Models", {name: cost and float(cost) for name, cost in models.items()}, {("x", "m"): 1, ("y", "m"): 5, ("z", "unknown"): ""})
    series = {row[1]: float(row[2]) for row in ask("Daily cost by model", KNOWN_DAYS + TODAYS + ODD, now - day, now)}
    hold("Daily cost by model", [series.get("m (x)"), series.get("m (y)")], [1, 5])
    # Of two days, the values of one dimension: all, one whose text has a quote, and the calls without the tag.
    for chosen, cost, seen in ((Raw("'*'"), 20, {"it's": 4, "(none)": 6, "search": 10}), (["it's"], 4, {"it's": 4}), (["(none)", "search"], 16, {"(none)": 6, "search": 10})):
        values |= {"dimension": ["team"], "value": chosen}
        two_days = (KNOWN_VALUES, midnight - day, now)
        hold(f"Cost of the chosen values, {chosen}", number("Cost of the chosen values", *two_days), cost)
        hold(f"Calls of the chosen values, {chosen}", number("Calls of the chosen values", *two_days), 2 * len(seen))
        hold(f"Values of a dimension, {chosen}", {row[0]: float(row[6]) for row in ask("Values of ${dimension}", *two_days)}, seen)
        hold(f"Models of the chosen values, {chosen}", [float(row[4]) for row in ask("Models of the chosen values", *two_days)], [cost])
        lines = ask("Daily cost by ${dimension}", *two_days)
        hold(f"Daily cost by a dimension, {chosen}", {row[1]: sum(float(each[2]) for each in lines if each[1] == row[1]) for row in lines}, seen)


def check_budgets(reader):
    """Budgets are chosen by a value of a dimension in their scope."""
    panels = {panel["title"]: panel["targets"] for panel in json.loads((ROOT / "grafana/dashboards/budgets-users.json").read_text())["panels"]}
    found = lambda dimension, chosen: sorted(
        (row[0], row[2]) for row in reader.rows(expand(panels["Budgets"][0]["rawSql"], {"zone": ["UTC"], "dimension": [dimension], "value": chosen}, "", ""))[1:]
    )
    hold = lambda what, found, expected: found == expected or fault(f"budgets-users.json, Budgets, {what}", f"{found}, not {expected}")
    team, all_spend, web = ("it's", "soft"), ("Everything", "hard"), ("web", "hard")
    hold("all", found("team", Raw("'*'")), sorted([team, all_spend, web]))
    hold("a tag's value", found("team", ["it's"]), [team])
    hold("an application", found("app", ["web"]), [web])
    hold("calls without the tag", found("team", ["(none)"]), [])


def expressions():
    """Each expression of the dashboards, and whether it returns series."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if "expr" in target:
                    yield f"{path.name}, {panel['title']!r}", target["expr"], True
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation["target"]:
                yield f"{path.name}, annotation {annotation['name']!r}", annotation["target"]["expr"], False


def labels(prometheus):
    """Values of the variables that are labels: all, and one of each."""
    for path in DASHBOARDS:
        chosen = {}
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] != "query" or variable["datasource"]["type"] != "prometheus":
                continue
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            for name, value in chosen.items():
                series = series.replace(f"${name}", value)
            found = json.loads(get(f"{prometheus}/api/v1/label/{label}/values?{urllib.parse.urlencode({'match[]': series})}") or "{}").get("data")
            if not found:
                fault(path.name, f"the variable {variable['name']} has no value: {series}")
                continue
            # As Grafana's Prometheus source escapes a chosen value.
            chosen[variable["name"]] = re.sub(r"[\\^$*+?.()|\[\]{}]", r"\\\\\g<0>", found[0])
        if chosen:
            yield path.name, chosen


def check_promql(prometheus, metrics):
    """Expressions of dashboards return series. Those of alerts are run, too; they need not return any."""
    one = dict(labels(prometheus))
    ask = lambda expression: json.loads(
        get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}") or '{"status": "unreachable"}'
    )
    asked = 0
    named = set()
    for where, expression, is_full in expressions():
        found = set(re.findall(r"\btallyd_\w+", expression))
        named |= found
        expression = expression.replace("$__rate_interval", "1m")
        chosen = one.get(where.split(",")[0], {})
        # All values, and one of each variable.
        for values in ({name: ".*" for name in chosen}, chosen) if "$" in expression else ({},):
            asked += 1
            expanded = re.sub(r"\$(\w+)", lambda m: values[m[1]], expression)
            answer = ask(expanded)
            if answer["status"] != "success":
                fault(where, f"Prometheus says {answer}: {expanded}")
            elif not answer["data"]["result"] and is_full and values is not chosen and not found <= QUIET:
                fault(where, f"no series: {expanded}")
    rules = json.loads(get(f"{prometheus}/api/v1/rules"))["data"]["groups"]
    alerts = [rule for group in rules for rule in group["rules"]]
    for rule in alerts:
        asked += 1
        named |= set(re.findall(r"\btallyd_\w+", rule["query"]))
        if rule["health"] == "err":
            fault(rule["name"], rule.get("lastError"))
    if not alerts:
        fault("alerts.yml", "Prometheus has loaded no rule")
    known = set(re.findall(r"^# TYPE (\w+)", metrics, re.M))
    registry = (ROOT / "crates/base/src/registry.rs").read_text()
    for name in sorted(named):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if base not in known and f'"{base}"' not in registry:
            fault(name, "no such metric")
    return asked


def check_files():
    for path in DASHBOARDS:
        check_form(path.name, json.loads(path.read_text()))


def finish():
    for one in faults:
        print(f"error: {one}", file=sys.stderr)
    sys.exit(1 if faults else 0)


def main():
    check_files()
    if len(sys.argv) == 1:
        finish()
    tallyd = str(pathlib.Path(sys.argv[1]).resolve())
    folder = tempfile.TemporaryDirectory(prefix="tallyd-monitoring-")
    home = pathlib.Path(folder.name)
    http, port = free_port(), free_port()
    for name in [name for name in os.environ if name.startswith("TALLYD_")]:
        del os.environ[name]
    os.environ.update(TALLYD_DATA_DIR=str(home / "data"), TALLYD_SOCKET=str(home / "s"), TALLYD_HTTP_LISTEN=f"127.0.0.1:{http}", TALLYD_LOG="warn", TALLYD_ALERTS_INTERVAL_MS="1000")
    config = (ROOT / "grafana/prometheus/prometheus.yml").read_text()
    config = config.replace("# authorization: {credentials_file: /etc/prometheus/tallyd-token}", f"authorization: {{credentials_file: {home}/token}}")
    config = config.replace("15s", "1s").replace("127.0.0.1:7420", f"127.0.0.1:{http}").replace("- alerts.yml", f"- {ROOT}/grafana/prometheus/alerts.yml")
    (home / "prometheus.yml").write_text(config)
    children = [
        subprocess.Popen([tallyd, "serve"], cwd=home),
        subprocess.Popen(
            ["prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/tsdb", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        ),
    ]
    try:
        check(tallyd, f"http://127.0.0.1:{http}", f"http://127.0.0.1:{port}", children)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        folder.cleanup()
    finish()


def fill(tallyd):
    """Two months of calls, refused records, budgets, a dimension, a corrected price."""
    run = lambda *words, **options: subprocess.run([tallyd, *words], check=True, stdout=subprocess.DEVNULL, **options)
    run("demo", "--backfill", "60", "--rate", "1000", "--seconds", "3", "--users", "40", "--seed", "5", stderr=subprocess.DEVNULL)
    run("budgets", "set", "0.01")
    run("dimensions", "add", "team", stderr=subprocess.DEVNULL)
    tagged = "".join(json.dumps({"provider": "claude", "model": "claude-sonnet-4", "input_tokens": 900, "tags": tags}) + "\n" for tags in ({"team": "it's"}, {"team": "search"}))
    subprocess.run([tallyd, "record", "--stdin"], input=tagged, text=True, check=True, stdout=subprocess.DEVNULL)
    run("budgets", "set", "5", "--for", "tag:team=it's", "--limit", "soft", "--period", "month")
    run("budgets", "set", "50", "--for", "app=web", "--period", "week")
    day = lambda days: (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y-%m-%d")
    run("prices", "set", "claude", "claude-sonnet-4", "--from", day(-3), "--rate", "input=4", stderr=subprocess.DEVNULL)
    run("reprice", "--from", day(-3), "--to", "now", "--provider", "claude", "--yes", stderr=subprocess.DEVNULL)
    # Closed vendor-days, as the vendors' reports make them: one of each state.
    closings = (
        "INSERT INTO tallyd_vendor_closings (number, vendor, day, state, cause, calls, unpriced_calls, recorded_usd, billed_usd, residues, bill_sha256, sums, at, "
        "previous, hash) SELECT n, 'anthropic', current_date - n - 2, s, c, 1, 0, 2, 3, CASE s WHEN 'differs' THEN '[{\"kind\": \"unrecorded_model\"}]'::jsonb "
        "ELSE '[]' END, '', '', now(), '', n::text FROM (VALUES (1, 'matched', NULL), (2, 'differs', NULL), (3, 'open', 'amended')) AS v (n, s, c)"
    )
    run("psql", "-Xqc", closings)
    refused = '{"provider":"x","colour":1}\n{"provider":"acme","model":"unknown"}\n{"provider":"rentcast"}'
    subprocess.run([tallyd, "record", "--stdin"], input=refused, text=True, stdout=subprocess.DEVNULL)
    run("psql", "-Xqc", "INSERT INTO tallyd_deploys (app, version, at, actor) VALUES ('web', '1.4.2', now() - interval '1 day', 'a test')")
    run("psql", "-Xqc", "INSERT INTO tallyd_session_samples SELECT date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 9, 7, 5, 3 FROM generate_series(1, 5) AS n")


def check(tallyd, daemon, prometheus, children):
    until("the daemon has its schema", lambda: '"flusher":{"status":"ok"}' in (get(f"{daemon}/healthz") or ""))
    made = subprocess.run([tallyd, "token", "create", "--name", "prometheus", "--role", "read", "--json"], check=True, capture_output=True)
    token = json.loads(made.stdout)["token"]
    # Prometheus reads the file at each scrape.
    pathlib.Path(os.environ["TALLYD_DATA_DIR"]).with_name("token").write_text(token)
    fill(tallyd)
    load = subprocess.Popen([tallyd, "demo", "--rate", "50"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children.append(load)
    count = lambda sql: int(subprocess.run([tallyd, "psql", "-XAtqc", sql], capture_output=True, text=True).stdout or 0)
    until("an alert was raised", lambda: count("SELECT count(*) FROM api_alerts") > 0)
    until("the refused record is a dead letter", lambda: count("SELECT count(*) FROM dead_letters") > 0)
    ready = f"{prometheus}/api/v1/query?query=" + urllib.parse.quote("rate(tallyd_records_committed_total[30s]) > 0")
    until("Prometheus has seen records", lambda: '"value"' in (get(ready) or ""))
    forecast = f"{prometheus}/api/v1/query?query=tallyd_budget_forecast_ratio"
    until("Prometheus has seen the budget's forecast", lambda: '"budget":"all spend, daily"' in (get(forecast) or ""))
    spent = f"{prometheus}/api/v1/query?query=" + urllib.parse.quote("sum(rate(tallyd_cost_usd_total[30s])) > 0")
    until("Prometheus has seen costs", lambda: '"value"' in (get(spent) or ""))
    if "tallyd_cost" in get(f"{daemon}/metrics"):
        fault("/metrics", "it shows costs without a token")
    until("Prometheus has evaluated the alerts", lambda: '"health":"unknown"' not in (get(f"{prometheus}/api/v1/rules") or '"health":"unknown"'))
    reader = Reader(tallyd)
    children.append(reader.psql)
    asked = sum(check_sql(path.name, json.loads(path.read_text()), reader) for path in DASHBOARDS)
    check_sums(reader)
    check_budgets(reader)
    reader.close()
    queries = check_promql(prometheus, get(f"{daemon}/metrics"))
    print(f"{len(DASHBOARDS)} dashboards: {asked} questions in SQL and {queries} in PromQL were asked")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main()
