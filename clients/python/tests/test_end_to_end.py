"""An application whose daemon is killed and whose database crashes: the history shows exactly the served calls."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import anthropic
import flask
import openai
import pytest
import requests
from support import Daemon, admits, until

import tallyd
from tallyd.web import WsgiMiddleware

CALLS = 1000
CLAUDE = Decimal("0.0218075")  # 100 x 3 + 50 x 15 + 2000 x 0.3 + 10 x 3.75 + 20 x 6 USD a million, 2 searches at 0.01.
GPT = Decimal("0.00171")  # 100 x 5 + 40 x 30 + 20 x 0.5 USD a million.


def application(stub, recorder):
    """A typical product: a route for each vendor."""
    claude = tallyd.instrument(anthropic.Anthropic(api_key="k", base_url=stub.url), recorder)
    gpt = tallyd.instrument(openai.OpenAI(api_key="k", base_url=stub.url + "/v1"), recorder)
    app = flask.Flask("product")
    local = threading.local()

    def ask(**more):
        messages = [{"role": "user", "content": "hello"}]
        return claude.messages.create(model="claude-sonnet-4-5-20250929", max_tokens=9, messages=messages, **more)

    @app.get("/ask/<user>")
    def plain(user):
        return ask().content[0].text

    @app.get("/stream/<user>")
    def stream(user):
        def body():
            for event in ask(stream=True):
                if event.type == "content_block_delta":
                    yield event.delta.text

        return flask.Response(body())

    @app.get("/chat/<user>")
    def chat(user):
        chunks = gpt.chat.completions.create(
            model="gpt-5.5", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    @app.get("/rent/<user>")
    def rent(user):
        if not hasattr(local, "session"):
            local.session = tallyd.meter_http(requests.Session(), "rentcast", recorder=recorder)
        return local.session.get(stub.url + "/v1/avm/rent/long-term?address=1+Main+St").json()

    app.wsgi_app = WsgiMiddleware(app.wsgi_app, user=lambda environ: environ["PATH_INFO"].split("/")[-1])
    return app


@pytest.fixture
def own_daemon():
    one = Daemon()
    try:
        yield one.up()
    finally:
        one.down()


def test_the_history_is_what_was_served(stub, own_daemon):
    token = own_daemon.token()
    recorder = tallyd.Recorder(own_daemon.socket, app="product", backoff=(0.01, 0.1))
    app = application(stub, recorder)
    numbers = itertools.count()

    def one(number):
        route = ("ask", "stream", "chat", "rent")[number % 4]
        with app.test_client() as client:
            answer = client.get(f"/{route}/u-{number % 7}")
            assert answer.status_code == 200 and answer.data
        return next(numbers)

    def break_things():
        until("a third is served", lambda: sum(stub.served.values()) > CALLS // 3)
        own_daemon.kill()
        until("calls go on without the daemon", lambda: sum(stub.served.values()) > CALLS // 2)
        own_daemon.up()
        before = own_daemon.crash_database()
        until("calls go on without the database", lambda: sum(stub.served.values()) > CALLS * 3 // 4)
        until("PostgreSQL is back", lambda: own_daemon.postmaster() not in (0, before))

    with ThreadPoolExecutor(9) as pool:
        breaking = pool.submit(break_things)
        for done in [pool.submit(one, number) for number in range(CALLS)]:
            done.result()
        breaking.result()
    assert recorder.close(30)
    assert recorder.stats().settled == CALLS and recorder.stats().dropped == 0

    own_daemon.until_stored(CALLS, "product")
    # Tokens are in the database. A restarted daemon knows them once it has read them.
    until("the daemon knows the token again", lambda: admits(own_daemon.url, token))
    costs = tallyd.Costs(own_daemon.url, token)
    # A test run over midnight has two days.
    days = costs.history(days=2)
    by_model = {}
    for day in days:
        for model, row in day["byModel"].items():
            counts = by_model.setdefault(model, [0, 0, 0])
            for at, name in enumerate(("calls", "inputTokens", "outputTokens")):
                counts[at] += row[name]
    claude, gpt = stub.served["claude-sonnet-4-5-20250929"], stub.served["gpt-5.5"]
    rent = stub.served["/v1/avm/rent/long-term"]
    assert (claude, gpt, rent) == (CALLS // 2, CALLS // 4, CALLS // 4)
    assert by_model["claude-sonnet-4-5"] == [claude, claude * 100, claude * 50]
    assert set(by_model) == {"claude-sonnet-4-5"}
    for provider, calls, cost in (("openai", gpt, GPT), ("claude", claude, CLAUDE), ("rentcast", rent, Decimal("0.2"))):
        rows = [day["byProvider"][provider] for day in days if provider in day["byProvider"]]
        assert (sum(row["calls"] for row in rows), sum(row["cost"] for row in rows)) == (calls, calls * cost)
    assert sum(day["claudeCost"] for day in days) == claude * CLAUDE
    assert sum(day["byRentCastEndpoint"]["/avm/rent/long-term"]["calls"] for day in days if day["totalCalls"]) == rent
    assert sum(day["totalCalls"] for day in days) == CALLS

    users = costs.summary(2, group_by="user")
    assert {row["user"]: row["calls"] for row in users["rows"]} == {
        f"u-{user}": len(range(user, CALLS, 7)) for user in range(7)
    }
    assert costs.today()["today"] == costs.history(1)[0]
    with pytest.raises(tallyd.CostsError) as error:
        tallyd.Costs(own_daemon.url, "wrong").today()
    assert error.value.status == 401
    reconciled = own_daemon.run("reconcile")
    assert reconciled.returncode == 0, reconciled.stdout
