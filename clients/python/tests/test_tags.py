"""Cost allocation: tags of the recorder, of the context and of the record itself."""

import threading

from tallyd import Recorder, _queue, _wire, context, tags


def encoded(recorder):
    items = [item for item, *_ in recorder.queue]
    return [item if isinstance(item, bytes) else _wire.encode_record(item) for item in items]


def test_tags_nest_and_a_records_own_come_first(monkeypatch):
    monkeypatch.setattr(Recorder, "_start", lambda self: None)
    recorder = Recorder("unix:/nowhere", tags={"environment": "test", "team": "none"}, quiet=True)
    recorder.record("x")
    with tags(team="search", feature="summary"):
        with context(user_id="u"), tags({"feature": "index"}):
            recorder.record("x", tags={"team": "ads", "build": 7})
        recorder.record("x")
        other = threading.Thread(target=recorder.record, args=("x",))
        other.start()
        other.join()
    recorder.record("x")
    told = [_wire.decode_record(one).get("tags") for one in encoded(recorder)]
    outside = {"environment": "test", "team": "none"}
    assert told == [
        outside,
        {"build": "7", "environment": "test", "feature": "index", "team": "ads"},
        {"environment": "test", "feature": "summary", "team": "search"},
        outside,
        outside,
    ]


def test_a_tag_without_a_value_is_none_and_tags_take_memory():
    assert _wire.tag_texts({"b": None, "a": 1, "ü": "x"}) == {"a": "1", "ü": "x"}
    plain, tagged = {"provider": "x"}, {"provider": "x", "tags": {"team": "s" * 100}}
    assert _queue.bytes_of_fields(tagged, None) > _queue.bytes_of_fields(plain, None) + 400
