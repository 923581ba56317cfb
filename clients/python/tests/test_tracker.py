"""`CostTracker` against the real daemon: killed, without its database, and absent."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from decimal import Decimal

import anthropic
import pytest
import requests
from replaced import build
from support import ROOT, Daemon, until

import tallyd
from tallyd import _tracker
from tallyd._known_prices import KNOWN_PRICES

BUDGET = "SELECT round(amount_usd, 2) || '/' || warning_percent FROM api_budgets"
ANALYSIS = "/api/claude/analysis"
SONNET = "claude-sonnet-4-5"


@pytest.fixture(scope="module")
def daemon():
    # Budgets' states follow within a second.
    one = Daemon(TALLYD_HTTP_ANALYSIS_ENDPOINT=ANALYSIS, TALLYD_ALERTS_INTERVAL_MS="1000")
    try:
        one.up()
        one.admin = one.token("admin")
        yield one
    finally:
        one.down()


def tracker_of(daemon, *budget, **options):
    recorder = {"backoff": (0.01, 0.1)}
    return tallyd.CostTracker(
        *budget, endpoint=daemon.socket, http=daemon.url, http_token=daemon.admin, **{**recorder, **options}
    )


@pytest.fixture(scope="module")
def tracker(daemon):
    with tracker_of(daemon, 50, 80, cost_timeout=30) as one:
        yield one


def calls(daemon):
    return int(daemon.psql("SELECT coalesce(sum(calls), 0) FROM daily_api_costs")[0])


def until_loaded(daemon, count):
    until(f"{count} calls are loaded", lambda: calls(daemon) == count)


def until_all_are_loaded(daemon):
    until("all are loaded", lambda: daemon.status().get("wal", {}).get("unflushed_records") == 0)


def answered(ask):
    """The answer; None if the daemon cannot give one now."""
    try:
        return ask()
    except tallyd.CostsError:
        return None


@pytest.fixture
def told(tracker, monkeypatch):
    """A connected tracker that knows only the costs in acks."""
    monkeypatch.setattr(_tracker, "local_price", lambda *_: None)
    until("an ack has a cost", lambda: tracker.record_rentcast("/avm/value"))
    return tracker


def run(daemon, code, **environment):
    """Runs a program whose environment names the daemon; returns its output."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TALLYD_")},
        "PYTHONPATH": str(ROOT / "clients/python"),
        "TALLYD_SOCKET": daemon.socket,
        "TALLYD_HTTP": daemon.url,
        "TALLYD_HTTP_TOKEN": daemon.admin,
        **environment,
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_default_budget_is_set_once(daemon, tracker):
    until("the budget is there", lambda: daemon.psql(BUDGET) == ["50.00/80"])
    with tracker_of(daemon, 7, 50) as other:
        assert other.get_summary()["dailyBudget"] == 50
    with tracker_of(daemon, daily_budget_usd=8, alert_threshold_percent=60) as other:
        assert other.get_summary()["dailyBudget"] == 50
    assert daemon.psql(BUDGET) == ["50.00/80"]


def test_a_server_of_the_replaced_tracker_runs_unchanged(daemon, tracker):
    app = build(tracker).test_client()
    assert app.post(ANALYSIS, headers={"x-user": "u1"}).text == "0.006000"  # 1,000 x 3 + 200 x 15 USD a million.
    assert app.post(ANALYSIS).text == "0.006000"
    assert app.get("/api/value", headers={"x-user": "u1"}).text == "0.20"
    until_loaded(daemon, 3)
    assert app.get("/api/admin/user-stats").json == ["u1 2 1 1 1"]
    assert daemon.psql("SELECT count(*) FROM api_usage_log WHERE user_id = ''") == ["1"]
    assert app.get("/api/admin/cost-history").json == ["0.2120 2 1, claude-sonnet-4-5 2 0.0120, /avm/value 1 0.20"]
    summary = app.get("/api/admin/costs").json
    assert summary["line"] == "0.21 of 50.00, 49.79 left (normal)"
    assert summary["today"]["byModel"][SONNET]["outputTokens"] == 400
    assert app.get("/api/admin/metrics").json == {"active": 0, "total": 0}


def test_amounts_are_decimal_even_where_they_are_whole(tracker):
    summary = tracker.get_summary()
    amounts = [summary["dailyBudget"], summary["remaining"], summary["budgetPercent"], summary["today"]["rentcastCost"]]
    amounts += [one["cost"] for one in summary["today"]["byModel"].values()]
    amounts += [tracker.get_pricing_info()["claude"][SONNET]["inputPerMToken"], tracker.get_today_costs()["totalCost"]]
    assert {type(amount) for amount in amounts} == {Decimal}


def test_an_unpriced_model_costs_0_with_one_warning(daemon, tracker, caplog):
    before = calls(daemon)
    for _ in range(3):
        assert tracker.record_claude("no-such-model", 10, 10, "/x", "u2") == 0
    until_loaded(daemon, before + 3)
    assert daemon.psql("SELECT count(*) FROM api_usage_log WHERE cost_usd IS NULL") == ["3"]
    assert [record.levelname for record in caplog.records if "no-such-model" in record.getMessage()] == ["WARNING"]


def test_the_cost_is_the_daemon_s_own(daemon, told):
    rates = ["--rate", "input=7", "--rate", "output=11"]
    done = daemon.run("prices", "set", "--from", "now", *rates, "claude", "house-model")
    assert done.returncode == 0, done.stderr
    cost = until("the price is in force", lambda: told.record_claude("house-model", 1_000_000, 1_000_000, "/x"))
    assert cost == 18


def test_each_waiter_of_a_frame_has_its_own_cost(told):
    async def many():
        claude = []
        for n in range(1, 101):
            claude.append(asyncio.create_task(told.arecord_claude(SONNET, 1000 * n, 0, "/x")))
            await asyncio.sleep(0)  # The coroutines record.
            told.recorder.record("rentcast")  # A record without a waiter.
        return await asyncio.gather(*claude, told.arecord_rentcast("/avm/value"))

    *claude, rentcast = asyncio.run(many())
    assert claude == [Decimal(3 * n) / 1000 for n in range(1, 101)]
    assert rentcast == Decimal("0.2")


def test_each_member_that_asks_has_an_async_form(tracker):
    async def ask():
        return await asyncio.gather(
            tracker.aget_summary(),
            tracker.aget_today_costs(),
            tracker.aget_history(7),
            tracker.aget_user_call_stats(),
            tracker.aget_active_sessions(),
        )

    summary, today, history, users, sessions = asyncio.run(ask())
    assert summary["today"]["date"] == today["date"] == history[0]["date"]
    assert [user["userId"] for user in users] == ["u1", "u2"]
    assert sessions == {"active": 0, "total": 0, "byTier": {}}


def test_prices_and_settings_hold_at_once_and_are_durable_soon(daemon, tracker):
    app = build(tracker).test_client()
    prices = app.get("/api/admin/pricing").json
    assert (prices["sonnet"], prices["request"], prices["developer"]) == ("3.00", "0.200", "0 0.200")
    assert (prices["foundation"], prices["growth"], prices["scale"]) == ("74 0.060", "199 0.030", "449 0.015")
    app.post("/api/admin/rentcast-cost", json=0.03)
    assert app.get("/api/admin/pricing").json["request"] == "0.030", "before the daemon has it"
    assert tracker.get_pricing_info()["rentcast"]["costPerRequest"] == Decimal("0.03")
    until("the daemon has it", lambda: daemon.psql("SELECT count(*) FROM api_prices WHERE origin = 'api'") == ["1"])
    until("a request costs that", lambda: app.get("/api/value").text == "0.03")
    until_all_are_loaded(daemon)
    spent = tracker.get_today_costs()["totalCost"]
    app.post("/api/admin/budget", json=str(spent))
    answer = app.post(ANALYSIS)
    assert answer.status_code == 429 and answer.text.startswith("budget used: 100."), answer.text
    until("an ack says so", lambda: tracker.record_rentcast("/avm/value") and tracker.should_throttle)
    app.post("/api/admin/budget", json=5000)
    assert app.post(ANALYSIS).status_code == 200, "the first question after the change has it"


def test_a_refused_setting_is_told_to_the_handler_and_nothing_raises(daemon):
    told = []
    with tracker_of(daemon, None, on_error=lambda error: told.append(str(error))) as tracker:
        for amount in (float("nan"), "much", None):
            tracker.set_daily_budget(amount)
        assert [text.split()[0] for text in told] == ["nan", "much", "None"]
        tracker.set_rentcast_cost_per_request(-1)
        tracker.set_daily_budget(-1)
        until("both are told", lambda: len(told) == 5)
        assert any("costPerRequest" in text for text in told[3:]) and any("budget" in text for text in told[3:])
        assert tracker.get_rentcast_cost_per_request() >= 0, "a refused price does not hold"
    assert daemon.psql(BUDGET) == ["5000.00/80"]


def test_a_refused_or_impossible_record_costs_0_and_raises_nothing(daemon, tracker):
    assert tracker.record_claude(SONNET, -1, 0, "/x") == 0
    assert tracker.record_claude(SONNET, object(), None, "/x") == 0
    assert tracker.record_rentcast("/x", no_such_field=1) == 0
    with tracker_of(daemon, None) as closed:
        pass
    assert closed.record_rentcast("/x") == 0
    assert closed.recorder.stats().dropped == 1


def test_while_the_daemon_is_away_a_cost_is_by_the_last_known_prices(daemon, tracker):
    until_all_are_loaded(daemon)
    before, history = calls(daemon), tracker.get_history()
    daemon.kill()
    until("the recorder knows", lambda: not tracker.recorder.is_connected)
    large = tracker.record_claude("claude-sonnet-4-20250514", 1_000_000, 0, "/x", "u1")
    assert large == 6, "by the rates of large prompts"
    assert tracker.record_claude(SONNET, 100_000, 0, "/x", "u1") == Decimal("0.3")
    assert asyncio.run(tracker.arecord_rentcast("/avm/value", "u1")) == Decimal("0.03")
    tracker.set_daily_budget(51)
    assert tracker.get_pricing_info()["rentcast"]["costPerRequest"] == Decimal("0.03")
    for ask in (tracker.get_summary, tracker.get_history, tracker.get_user_call_stats, tracker.get_active_sessions):
        with pytest.raises(tallyd.CostsError):
            ask()
    daemon.up()
    until("it has its database", lambda: daemon.status().get("database", {}).get("connected"))
    until_loaded(daemon, before + 3)
    until("the budget is durable", lambda: daemon.psql(BUDGET) == ["51.00/80"])
    day = until("history is answered", lambda: answered(tracker.get_history))[0]
    assert day["totalCost"] == history[0]["totalCost"] + Decimal("6.33")
    assert daemon.run("reconcile").returncode == 0


def test_while_the_database_is_away_recording_goes_on(daemon, tracker):
    before = calls(daemon)
    daemon.crash_database()
    assert tracker.record_claude(SONNET, 100_000, 0, "/x", "u1") == Decimal("0.3")
    tracker.set_daily_budget(52)
    until("it is loaded", lambda: answered(tracker.get_summary) and calls(daemon) == before + 1)
    until("the budget is durable", lambda: daemon.psql(BUDGET) == ["52.00/80"])


def test_the_default_instance_begins_with_its_first_use(daemon):
    code = """
import logging, threading
logging.disable()
import tallyd
from tallyd import cost_tracker
assert isinstance(cost_tracker, tallyd.CostTracker) and not hasattr(cost_tracker, "nothing")
print(threading.active_count(), cost_tracker.record_claude("claude-sonnet-4-5", 100_000, 0))
print(cost_tracker.get_summary()["dailyBudget"], cost_tracker.recorder.app, threading.active_count())
"""
    printed = run(daemon, code, TALLYD_APP="default-one", TALLYD_DAILY_BUDGET_USD="much")
    assert [printed[0], Decimal(printed[1]), *printed[2:]] == ["1", Decimal("0.3"), "52", "default-one", "3"]
    daemon.until_stored(1, "default-one")


def test_an_impossible_endpoint_of_the_default_instance_raises_nothing(daemon):
    code = """
import tallyd
tallyd.cost_tracker.set_daily_budget(1)
tallyd.cost_tracker.set_rentcast_cost_per_request(1)
print(tallyd.cost_tracker.record_rentcast("/x"), tallyd.cost_tracker.record_claude("claude-sonnet-4-5", 1, 1))
"""
    assert run(daemon, code, TALLYD_ENDPOINT="tcp://nowhere") == ["0", "0"]


def test_a_setting_of_a_process_that_ends_at_once_is_durable(daemon):
    patient = "from tallyd import _background; _background._CLOSE_TIMEOUT = 60"
    run(daemon, f"{patient}\nimport tallyd\ntallyd.CostTracker(None).set_daily_budget('52.50')")
    assert daemon.psql(BUDGET) == ["52.50/80"]


def test_a_forked_child_records_and_sets_for_itself(daemon, tracker):
    pid = os.fork()
    if pid == 0:
        try:
            cost = tracker.record_claude(SONNET, 100_000, 0, "/forked")
            tracker.set_daily_budget(53)
            assert (cost, tracker.get_summary()["dailyBudget"]) == (Decimal("0.3"), 53)
            os._exit(0 if tracker.close(60) else 2)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert tracker.get_summary()["dailyBudget"] == 53


def test_without_a_daemon_nothing_that_promises_so_raises(tmp_path, caplog):
    absent = {"endpoint": str(tmp_path / "nobody.sock"), "http": "http://127.0.0.1:9", "http_token": "t"}
    told = []
    tracker = tallyd.CostTracker(**absent, cost_timeout=0, on_error=told.append, close_timeout=0)
    caplog.set_level(logging.WARNING)
    assert tracker.record_claude(SONNET, 100_000, 0) == Decimal("0.3")
    assert tracker.record_rentcast("/avm/value") == KNOWN_PRICES["rentcast"]["costPerRequest"]
    for _ in range(5000):
        assert tracker.record_claude("no-such-model", 1, 1) == 0
    assert len([record for record in caplog.records if "no-such-model" in record.getMessage()]) == 1, caplog.text
    until("the queue is taken", lambda: not tracker.recorder.queue)
    assert len(tracker.recorder._sender._waiters) < 3000, "who waits no longer is forgotten"
    tracker.set_daily_budget(5)
    tracker.set_rentcast_cost_per_request(Decimal("0.5"))
    assert tracker.get_rentcast_cost_per_request() == tracker.record_rentcast("/avm/value") == Decimal("0.5")
    assert tracker.should_throttle is False
    assert tracker.close(0.2) is False
    assert ["budget" in str(one) for one in told] == [True, False], "what was not taken is told"


def test_the_known_prices_are_those_of_the_node_client():
    text = (ROOT / "clients/typescript/src/known-prices.ts").read_text().split("PricingInfo = ")[1].rstrip(";\n")
    assert json.loads(text, parse_float=Decimal) == KNOWN_PRICES, "node prices.mjs writes both"


def test_a_call_that_instrument_records_is_not_recorded_twice(tracker, daemon, stub, caplog, tmp_path):
    client = tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url), tracker.recorder)
    session = tallyd.meter_http(requests.Session(), "rentcast", recorder=tracker.recorder)
    assert tracker.recorder.flush(60)
    until_all_are_loaded(daemon)
    before = calls(daemon)
    message = client.messages.create(model=SONNET, max_tokens=9, messages=[{"role": "user", "content": "hello"}])
    used = message.usage
    with caplog.at_level(logging.WARNING, "tallyd"):
        cost = tracker.record_claude(SONNET + "-20250929", used.input_tokens, used.output_tokens, "/api/chat", "u-1")
        session.get(stub.url + "/v1/avm/rent/long-term?address=1+Main+St")
        assert tracker.record_rentcast("/avm/rent/long-term", "u-1") == tracker.get_rentcast_cost_per_request()
    assert cost == Decimal("0.0218075"), "as the instrumented call costs, with its cache and its searches"
    assert len([record for record in caplog.records if "not counted again" in record.getMessage()]) == 1
    # The next calls are new ones.
    tracker.record_claude(SONNET, used.input_tokens, used.output_tokens)
    tracker.record_rentcast("/avm/rent/long-term")
    # So is a call that went to another daemon.
    other = tallyd.Recorder(str(tmp_path / "other.sock"), quiet=True)
    another = tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url), other)
    another.messages.create(model=SONNET, max_tokens=9, messages=[{"role": "user", "content": "hello"}])
    tracker.record_claude(SONNET, used.input_tokens, used.output_tokens)
    assert other.stats().recorded == 1 and not other.close(0)
    assert tracker.recorder.flush(60)
    until_loaded(daemon, before + 5)
