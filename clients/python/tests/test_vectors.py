"""The shared vectors: this client writes them byte for byte, and reads them."""

import json
from decimal import Decimal

import pytest
from support import ROOT

import tallyd
from tallyd import _answer, _wire
from tallyd._standing import BELIEVED, Standing, amount


def vectors(name):
    return [pytest.param(v, id=v["name"]) for v in json.loads((ROOT / f"clients/vectors/{name}.json").read_text())]


@pytest.mark.parametrize("vector", vectors("records"))
def test_a_record_is_written_byte_for_byte(vector):
    assert _wire.encode_record(vector["record"]).hex() == vector["array_hex"]


@pytest.mark.parametrize("vector", vectors("frames"))
def test_a_frame_is_written_or_read(vector):
    ((name, body),) = vector["message"].items()
    if vector["sender"] == "server":
        inbox = _wire.Inbox()
        for byte in bytes.fromhex(vector["hex"]):
            assert inbox.next() is None
            inbox.feed(bytes([byte]))
        read, content = inbox.next()
        assert read == name
        for key, value in body.items():
            if value:
                assert content[key] == value
    elif name == "hello":
        written = _wire.hello(
            body["producer"],
            body["secret"],
            body.get("token"),
            body["want_costs"],
            body["client"],
            body.get("ack", "durable"),
        )
        assert written.hex() == vector["hex"]
    elif name == "watch":
        assert _wire.watch().hex() == vector["hex"]
    else:
        encoded = [_wire.encode_record(record) for record in body["records"]]
        assert _wire.records(body["first_seq"], encoded).hex() == vector["hex"]


@pytest.mark.parametrize("vector", vectors("throttle"))
def test_a_call_is_held_back_as_every_client_does_for_as_long_as_the_daemon_is_believed(vector):
    call = {"tags": {}, **vector["call"]}
    tags, estimate = call.pop("tags"), call.pop("estimate", None)
    for denies in (False, True):
        now = [1000.0]
        standing = Standing(denies, clock=lambda now=now: now[0])

        def told(standing=standing):
            plain = [call.get(name, "") for name in ("provider", "model", "user")]
            app = call.get("app") or tags.get("app", "")
            found = standing.check((*plain, app, tags), None if estimate is None else amount(estimate))
            assert bool(found) is found.allowed
            return found

        unknown = (not denies, False, {})
        assert (*told()[:2], standing.budget) == unknown, "nothing was heard"
        standing.hear(vector["budgets"])
        for passed in (0, BELIEVED - 0.001):
            now[0] = 1000.0 + passed
            assert told()[:2] == (not vector["throttle"], True)
            assert standing.budget == vector["budgets"].get("budget", {})
            if "remaining" in vector:
                assert told().remaining == Decimal(vector["remaining"])
            if "says" in vector:
                assert told().reason == vector["says"]
        now[0] = 1000.0 + BELIEVED
        assert (*told()[:2], standing.budget) == unknown, "the daemon may be gone"


@pytest.mark.parametrize("vector", vectors("usage"))
def test_what_a_vendor_answers_is_read_as_every_client_reads_it(vector):
    vendor = vector["vendor"]
    is_stream = "events" in vector
    answer = _answer.Answer({"openrouter": "openai"}.get(vendor, vendor), is_stream)
    if is_stream:
        for event in vector["events"]:
            answer.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    else:
        answer.feed(json.dumps(vector["answer"]).encode())
    answer.end()
    if vector["record"] is None:
        assert not answer.has_usage()
        assert answer.fields()["metadata"] == {"tallyd.not_understood": "usage"}, "and its call is unpriced"
        return
    assert answer.has_usage()
    fields = {"provider": {"anthropic": "claude"}.get(vendor, vendor), **answer.fields()}
    fields["extra_units"] = {unit: str(count) for unit, count in fields.get("extra_units", {}).items()}
    if "cost_usd" in fields:
        assert Decimal(fields["cost_usd"]) == Decimal(vector["record"]["cost_usd"])
        fields["cost_usd"] = vector["record"]["cost_usd"]
    defaults = (0, {}, "standard")
    assert {name: value for name, value in fields.items() if value not in defaults} == vector["record"]


@pytest.mark.parametrize("vector", vectors("batches"))
def test_a_batchs_results_are_records_with_ids_of_their_own_each_time(vector):
    for lines in (vector["lines"], [json.loads(line) for line in vector["lines"] if line]):
        found = list(tallyd.records_of_batch(vector["vendor"], lines))
        defaults = (0, {}, "standard")
        told = [{name: value for name, value in record.items() if value not in defaults} for record in found]
        assert told == vector["records"]
    for record in found:
        assert _wire.encode_record(record)


def test_a_line_that_is_not_a_result_is_named():
    for lines, says in ((["{"], "line 1 is not JSON"), (["", '{"colour":1}'], "line 2 is not a result")):
        with pytest.raises(ValueError, match=says):
            list(tallyd.records_of_batch("anthropic", lines))
