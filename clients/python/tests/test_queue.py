"""The queue's memory is bounded, a burst fits the queue, and larger bursts can wait for room."""

import asyncio
import threading
import tracemalloc
import uuid

import pytest
from support import until

import tallyd

BURST = 100_000
RECORD = {
    "model": "claude-sonnet-4-5",
    "input_tokens": 1200,
    "output_tokens": 350,
    "user_id": "u-42",
    "endpoint": "/api/chat",
}


def test_a_burst_beside_a_daemon_loses_nothing(daemon):
    with tallyd.Recorder(daemon.socket, app="burst") as recorder:
        assert all(recorder.record("claude", **RECORD, request_id=str(number)) for number in range(BURST))
        assert recorder.flush(300)
        stats = recorder.stats()
    assert (stats.settled, stats.rejected, stats.dropped) == (BURST, 0, 0)


@pytest.fixture
def nobody(tmp_path):
    """Makes recorders without a daemon, whose window one record fills."""
    made = []

    def make(**options):
        options = {"window_bytes": 1, "quiet": True, **options}
        made.append(tallyd.Recorder(str(tmp_path / "nobody.sock"), **options))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close(0)


def test_a_burst_fits_though_nobody_takes_it(nobody):
    recorder = nobody()
    assert all(recorder.record("claude", **RECORD) for _ in range(BURST))


@pytest.mark.parametrize(
    "fields",
    [RECORD, {"metadata": {"text": "ä" * 3_000}}, {"extra_units": {f"unit {number}": "1.5" for number in range(20)}}],
    ids=["numbers", "metadata", "units"],
)
def test_the_bound_is_the_memory_that_is_taken(nobody, fields):
    bound = 4 << 20
    recorder = nobody(queue_bytes=bound)
    assert recorder.record("x")
    until("the window has it", lambda: not recorder.queue)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        taken = 0
        # New text for each record, as in an application.
        while recorder.record("x", **{"request_id": str(taken) * 20, **fields}):
            taken += 1
        taken_bytes = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert bound / 8 < taken_bytes <= bound, f"{taken} records"


def test_what_is_encoded_already_is_handed_over_with_its_fields(nobody):
    dropped = []
    recorder = nobody(queue_bytes=50_000, on_drop=dropped.append)
    identity = uuid.uuid4()
    given = {
        "id": identity,
        "extra_units": {"image": 2},
        "metadata": {"a": {"b": 1}},
        "cost_usd": "0.25",
        "status": 429,
    }
    while recorder.record("x", **given):
        pass
    dropped.clear()
    recorder.close(0)
    assert len(dropped) > 20
    for fields in dropped:
        told = [fields[name] for name in ("provider", "id", "metadata", "cost_usd", "status")]
        assert told == ["x", identity, '{"a":{"b":1}}', "0.25", 429]
        assert str(fields["extra_units"]["image"]) == "2"


def test_a_wrong_record_of_a_burst_is_refused_alone(daemon):
    refused = []
    options = {"on_reject": lambda *what: refused.append(what), "queue_bytes": 2_000}
    with tallyd.Recorder(daemon.socket, app="burst-refused", **options) as recorder:
        for number in range(30):
            assert recorder.room(60)
            assert recorder.record("x", cost_usd=0.5 if number % 3 == 0 else "0.5", input_tokens=-(number % 3 == 1))
        assert recorder.flush(60)
    assert sorted(code for _, code, _ in refused) == ["client"] * 10 + ["range"] * 10
    daemon.until_stored(10, "burst-refused")


def test_who_waits_for_room_loses_nothing(daemon):
    async def burst(recorder):
        for _ in range(3_000):
            assert await recorder.aroom(60)
            assert recorder.record("rentcast")

    def thread(recorder):
        for _ in range(3_000):
            assert recorder.room(60)
            assert recorder.record("rentcast")

    # Two threads may find the same room, so each uses less of it than it waited for.
    with tallyd.Recorder(daemon.socket, app="room", queue_bytes=150_000) as recorder:
        threads = [threading.Thread(target=thread, args=(recorder,)) for _ in range(2)]
        for one in threads:
            one.start()
        asyncio.run(burst(recorder))
        for one in threads:
            one.join()
        assert recorder.flush(60)
        assert (recorder.stats().settled, recorder.stats().dropped) == (9_000, 0)


def test_waiting_for_room_ends_with_its_time_and_with_the_recorder(nobody):
    recorder = nobody(queue_bytes=1_000)
    while recorder.record("x"):
        pass
    assert recorder.room(0.01) is False
    assert asyncio.run(recorder.aroom(0.01)) is False
    assert not recorder._roomless, "who waits no longer is forgotten"
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(recorder.room(600)))
    waiting.start()
    until("it waits", lambda: recorder._roomless)
    recorder.close(0)
    waiting.join(60)
    assert answers == [False]
    assert tallyd.Recorder(disabled=True).room(0) is True


def test_a_record_is_what_it_was_when_it_was_recorded(nobody):
    dropped = []
    recorder = nobody(on_drop=dropped.append)
    assert recorder.record("x")
    metadata, units = {"a": {"b": 1}}, {"image": 1}
    assert recorder.record("x", metadata=metadata, extra_units=units)
    metadata["a"]["b"] = units["image"] = 2
    recorder.close(0)
    assert (dropped[-1]["metadata"], dropped[-1]["extra_units"]) == ('{"a":{"b":1}}', {"image": 1})
