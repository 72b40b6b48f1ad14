"""Operand traces and what they claim about themselves."""

import numpy as np
import pytest

from bitkiln.models.cost.energy.traces import Trace, trace_codes, trace_statistics
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format

SHAPE = (200, 128, 2)


def codes(fmt, trace, **options):
    return trace_codes(get_format(fmt), trace, *SHAPE, **options)


@pytest.mark.parametrize("fmt", ["int8", "fp4", "fp8_e4m3", "posit8_0", "uint4", "ternary"])
@pytest.mark.parametrize("trace", ["uniform", "gaussian", "relu", "sparse(0.6)"])
def test_codes_are_finite_and_repeatable(fmt, trace):
    found = codes(fmt, trace, seed=3)
    assert found.shape == SHAPE and (get_format(fmt).unpack(found).special == 0).all()
    assert np.array_equal(found, codes(fmt, trace, seed=3)) and not np.array_equal(found, codes(fmt, trace, seed=4))


def test_uniform_bits_toggle_every_other_cycle():
    found = trace_statistics(get_format("int8"), codes("int8", "uniform"))
    assert found.toggle_rate == pytest.approx(0.5, abs=0.02)
    assert found.zero_fraction == pytest.approx(1 / 256, abs=0.002)
    assert set(np.unique(codes("ternary", "uniform"))) == {0, 1, 3}


def test_zero_fractions():
    for fmt in ("int8", "fp8_e4m3", "posit8_0"):
        own = trace_statistics(get_format(fmt), codes(fmt, "gaussian")).zero_fraction
        assert own < 0.03
        assert trace_statistics(get_format(fmt), codes(fmt, "relu")).zero_fraction == pytest.approx(0.5, abs=0.03)
        assert trace_statistics(get_format(fmt), codes(fmt, "sparse(0.75)")).zero_fraction == \
            pytest.approx(0.75 + own / 4, abs=0.02)
    assert (get_format("int8").decode(codes("int8", "relu")) >= 0).all()


def test_gaussian_scale():
    assert get_format("int8").decode(codes("int8", "gaussian")).std() == pytest.approx(127 / 4, rel=0.02)
    assert get_format("posit8_0").decode(codes("posit8_0", "gaussian")).std() == pytest.approx(1, rel=0.03)
    assert get_format("fp4").decode(codes("fp4", "gaussian")).std() == pytest.approx(1.5, rel=0.1)


def test_reuse_holds_values():
    found = codes("int8", "uniform@16")
    assert all((found[start:start + 16] == found[start]).all() for start in range(0, 200, 16))
    rate = trace_statistics(get_format("int8"), found).mean_toggle_rate
    assert rate == pytest.approx(0.5 * 12 / 199, rel=0.05)          # 12 changes in 199 cycle boundaries


@pytest.mark.parametrize("text, message", [
    ("gausian", "unknown operand trace"), ("sparse", "sparse"), ("uniform(0.5)", "unknown operand trace"),
    ("sparse(1.5)", "out of range at trace zeros"), ("relu@0", "out of range at trace reuse"), ("", "unknown operand"),
])
def test_unknown_traces(text, message):
    with pytest.raises(BitkilnError, match=message.replace("(", r"\(")):
        Trace.parse(text)


def test_names_round_trip():
    for text in ("uniform", "sparse(0.75)", "gaussian@16", "sparse(0.5)@4"):
        assert str(Trace.parse(text)) == text
    with pytest.raises(BitkilnError, match="did you mean gaussian"):
        Trace("gausian")
    with pytest.raises(BitkilnError, match="wrong shape at codes"):
        trace_statistics(get_format("int8"), np.zeros((1, 4, 2), int))
