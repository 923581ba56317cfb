"""Properties of the encoder that the vectors do not cover."""

import pytest

from tallyd import _wire


@pytest.mark.parametrize("fields", [{"cost_usd": 0.1}, {"extra_units": {"image": 0.1}}, {"cost_usd": True}])
def test_a_float_is_no_money(fields):
    with pytest.raises(TypeError, match="exact"):
        _wire.encode_record({"provider": "x", **fields})


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="outptu_tokens"):
        _wire.encode_record({"provider": "x", "outptu_tokens": 1})


def test_a_left_out_map_is_written_as_an_empty_one():
    written = _wire.encode_record({"provider": "x", "service_tier": "priority"}).hex()
    assert written == "dc0010c0c0a178a0a0a0a0a000000000000180a87072696f72697479"
