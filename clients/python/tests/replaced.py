"""An application written against the tracker that tallyd replaces: mypy checks it, test_tracker.py runs it."""

import json
from typing import Dict, List, Tuple

import flask

import tallyd


def line(summary: tallyd.CostSummary) -> str:
    used, budget = summary["today"]["totalCost"], summary["dailyBudget"]
    return f"{used:.2f} of {budget:.2f}, {summary['remaining']:.2f} left ({summary['status']})"


def day(costs: tallyd.DailyCosts) -> str:
    models = [f"{name} {one['calls']} {one['cost']:.4f}" for name, one in costs["byModel"].items()]
    endpoints = [f"{name} {one['calls']} {one['cost']:.2f}" for name, one in costs["byRentCastEndpoint"].items()]
    return ", ".join([f"{costs['totalCost']:.4f} {costs['claudeCalls']} {costs['rentcastCalls']}", *models, *endpoints])


def user(stats: tallyd.UserCallStats) -> str:
    calls = (stats["totalCalls"], stats["claudeCalls"], stats["rentcastCalls"], stats["analysisCalls"])
    return f"{stats['userId']} {' '.join(map(str, calls))}"


def build(tracker: tallyd.CostTracker) -> flask.Flask:
    app = flask.Flask("replaced")

    @app.post("/api/claude/analysis")
    def analysis() -> Tuple[str, int]:
        summary: tallyd.CostSummary = tracker.get_summary()
        if summary["shouldThrottle"]:
            return f"budget used: {summary['budgetPercent']:.1f} %", 429
        who = flask.request.headers.get("x-user", "anonymous")
        return f"{tracker.record_claude('claude-sonnet-4-5', 1000, 200, '/api/claude/analysis', who):.6f}", 200

    @app.get("/api/value")
    def value() -> str:
        return f"{tracker.record_rentcast('/avm/value', flask.request.headers.get('x-user')):.2f}"

    @app.get("/api/admin/costs")
    def costs() -> flask.Response:
        summary: tallyd.CostSummary = tracker.get_summary()
        answer = json.dumps({**summary, "line": line(summary)}, default=float)
        return flask.Response(answer, mimetype="application/json")

    @app.get("/api/admin/cost-history")
    def history() -> List[str]:
        return [day(costs) for costs in tracker.get_history(2)]

    @app.get("/api/admin/user-stats")
    def stats() -> List[str]:
        return [user(one) for one in tracker.get_user_call_stats()]

    @app.get("/api/admin/pricing")
    def pricing() -> Dict[str, str]:
        prices: tallyd.PricingInfo = tracker.get_pricing_info()
        terms = {
            plan: f"{one['monthly']:.0f} {one['overage']:.3f}" for plan, one in prices["rentcast"]["plans"].items()
        }
        sonnet = prices["claude"]["claude-sonnet-4-5"]["inputPerMToken"]
        return {**terms, "sonnet": f"{sonnet or 0:.2f}", "request": f"{tracker.get_rentcast_cost_per_request():.3f}"}

    # Neither call waits: for the caller both settings take effect at once.
    @app.post("/api/admin/budget")
    def budget() -> str:
        tracker.set_daily_budget(flask.request.get_json())
        return "set"

    @app.post("/api/admin/rentcast-cost")
    def rentcast_cost() -> str:
        tracker.set_rentcast_cost_per_request(flask.request.get_json())
        return "set"

    @app.get("/api/admin/metrics")
    def metrics() -> Dict[str, int]:
        sessions: tallyd.ActiveSessions = tracker.get_active_sessions()
        return {"active": sessions["active"], "total": sessions["total"], **sessions["byTier"]}

    return app
