"""Beats by their fields, against plain shifts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.host.fields import beat_width, pack_fields, unpack_fields


@given(st.lists(st.integers(1, 62), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_fields_lie_one_after_the_other(widths, count, seed):
    rng = np.random.default_rng(seed)
    fields = {f"f{at}": width for at, width in enumerate(widths)}
    values = {name: rng.integers(0, 1 << width, count) for name, width in fields.items()}
    beats = pack_fields(fields, values)
    assert beats.shape == (count, beat_width(fields)) and beats.dtype == np.uint8
    for row in range(count):
        word, at = 0, 0
        for name, width in fields.items():
            word |= int(values[name][row]) << at
            at += width
        assert beats[row].tobytes() == word.to_bytes(beat_width(fields), "little")
    for name, found in unpack_fields(fields, beats).items():
        assert np.array_equal(found, values[name])


def test_by_hand():
    """Two codes of four bits, a mark, a negative number of three bits."""
    beats = pack_fields({"codes": 8, "last": 1, "n": 3}, {"codes": np.array([[5, 10]]), "last": np.array([True]),
                                                           "n": np.array([-2])})
    assert beats.tolist() == [[0xA5, 0b1101]]


def test_none_at_all():
    fields = {"k": 8, "tag": 16}
    assert unpack_fields(fields, np.zeros((0, 3), np.uint8))["tag"].shape == (0,)
    assert pack_fields(fields, {"k": np.zeros(0), "tag": np.zeros(0)}).shape == (0, 3)


@pytest.mark.parametrize("width", [63, 64])
def test_wide_fields(width):
    beats = np.full((1, 8), 255, np.uint8)
    assert unpack_fields({"f": width}, beats)["f"].tolist() == [(1 << width) - 1]
