"""The products of the gather unit: every pair of codes, and lanes that do not multiply."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.spconv.gather_array import GatherArray, ProductArray, array_for
from bitkiln.hw.spconv.gather_digits import DigitArray
from bitkiln.hw.spconv.gather_pairs import PairArray
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.bitserial_check import bits_of, pack_bits

SEED = 101


def drive(array: GatherArray, a: np.ndarray, w: np.ndarray, active: np.ndarray) -> list[dict[str, np.ndarray]]:
    """``value + carry`` and flags of each output, for operands of one cycle each."""
    design, model = array.design, BatchModel(array)
    count, late = len(a), array.latency
    layout = array.signature.members["totals"].shape
    # Weights come later.
    pad = [np.concatenate([np.zeros((at, *each.shape[1:]), each.dtype), each,
                           np.zeros((late - 1 - at, *each.shape[1:]), each.dtype)])
           for each, at in ((a, 0), (w, array.lag), (active, 0))]

    def packed(values: np.ndarray, bits: int) -> np.ndarray:
        return pack_bits([(values, bits)])

    out = model.run({"a": packed(pad[0], design.activation.bits), "w": packed(pad[1], design.weight.bits),
                     "active": packed(pad[2], 1)})["totals"][-count:]
    found = []
    for output in range(design.outputs):
        at = output * layout.elem_shape.size
        fields = {name: bits_of(out.astype(np.uint64), at + field.offset, field.width, name == "value")
                  for name, field in layout.elem_shape}
        found.append({"sum": fields.pop("value") + fields.pop("carry"), **fields})
    return found


@pytest.mark.parametrize("options, kind", [
    ({"multiplier": "chains"}, DigitArray), ({"multiplier": "pairs"}, PairArray),
    ({"activation": "int6", "weight": "int5", "multiplier": "pairs", "pipeline": 0}, PairArray)])
def test_every_product_of_two_integers(options: dict, kind: type) -> None:
    """All pairs of codes with each of two outputs, the other one's weight being any."""
    design = GatherDesign(**{"lanes": 1, "outputs": 2, "channels": 1, "pipeline": 2, **options})
    array = array_for(design)
    assert isinstance(array, kind)
    bits_a, bits_w = design.activation.bits, design.weight.bits
    a, w = (each.ravel() for each in np.meshgrid(np.arange(1 << bits_a), np.arange(1 << bits_w)))
    other = np.random.default_rng(SEED).integers(0, 1 << bits_w, len(a))
    pairs = np.concatenate([np.stack([w, other], axis=1), np.stack([other, w], axis=1)])
    a = np.concatenate([a, a])
    found = drive(array, a[:, None], pairs[:, None, :], np.ones((len(a), 1), np.int64))
    for output in range(2):
        wanted = design.activation.units(a) * design.weight.units(pairs[:, output])
        assert (found[output]["sum"] == wanted).all() and len(wanted) == 2 << bits_a + bits_w


@pytest.mark.parametrize("name", ["int8", "fp8_e4m3", pytest.param("posit8_0", marks=pytest.mark.slow)])
def test_an_idle_lane_adds_nothing_and_sets_no_flag(name: str) -> None:
    """Beside a lane that multiplies by one, all codes of activation and weight."""
    design = GatherDesign(name, name, lanes=2, outputs=1, channels=2, pipeline=1)
    array, fmt = array_for(design), design.activation
    assert isinstance(array, DigitArray if name == "int8" else ProductArray)
    a, w = (each.ravel() for each in np.meshgrid(np.arange(256), np.arange(256)))
    one = int(fmt.encode(np.array([1.0]))[0])
    ones = np.full_like(a, one)
    finite = fmt.unpack(w).special == 0
    idle = np.stack([np.ones_like(a), np.zeros_like(a)], axis=1)
    units = fmt.units(w) * int(fmt.units(np.array([one]))[0])
    for turn in (1, -1):
        found = drive(array, np.stack([ones, a], axis=1)[:, ::turn], np.stack([w, w], axis=1)[:, ::turn, None],
                      idle[:, ::turn])[0]
        assert (found["sum"][finite] == units[finite]).all() and finite.sum() > 60_000
        assert "nan" not in found or np.array_equal(found["nan"].astype(bool), ~finite)
        # A weight stays in its register while its lane is idle: NaN beside nothing.
        found = drive(array, np.stack([np.where(a % 2, one, 0), a], axis=1)[:, ::turn],
                      np.stack([ones, w], axis=1)[:, ::turn, None], np.stack([a % 2, a % 2 == 0], axis=1)[:, ::turn])[0]
        assert len(found["sum"]) == 65536
