"""A PE behind pins: every pair of 4-bit codes in and every result out, and that the vectors see bugs."""

import pytest
from amaranth.hdl import Cat

from bitkiln.hw.mac.pins import PinsPe
from bitkiln.models.design import Accumulator, DotDesign, MorphableDesign
from bitkiln.models.design.pins import PinsDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import build_many
from bitkiln.sim.block_check import check_block
from bitkiln.sim.mutate import engine_blocks, mutate_block
from bitkiln.sim.pins_check import edges, read, steps
from bitkiln.sim.toolchain import find


def dot(pe: str, **options) -> PinsDesign:
    return PinsDesign(DotDesign.from_pe(pe, **options))


# One of each plan: a byte, two bytes, bytes one after the other; modes; flags.
PLANS = {"byte": dot("fp4", lanes=1), "flag": dot("posit4_1", lanes=1, pipeline=1), "two bytes": dot("fp4", lanes=2),
         "modes": PinsDesign(MorphableDesign(("fp4", "posit4_1")))}
MORE = [dot("int4", lanes=4), dot("posit8_0", lanes=1), dot("int8", lanes=1, pipeline=2), dot("int8xfp4", lanes=1),
        dot("posit4_1", lanes=2), dot("fp8_e4m3", lanes=1, output="fp8_e4m3"), dot("fp8_e5m2", lanes=2), dot("bf16"),
        dot("int8xternary", lanes=4), dot("int4xbinary", lanes=3),
        dot("int4", lanes=1, accumulator=Accumulator(depth=1024, bits=9)),
        PinsDesign(MorphableDesign(("fp4", "posit8_0", "posit16_1"))),
        PinsDesign(MorphableDesign(("int8xint4", "int8xfp4", "int8"), pipeline=1))]


def checked(designs: list[PinsDesign]) -> list[int]:
    components = [PinsPe(design) for design in designs]
    return [check_block(component, model=model)
            for component, model in zip(components, build_many(components), strict=True)]


def test_every_pair_of_four_bit_codes_through_each_plan_of_pins():
    words = checked(list(PLANS.values()))
    for (name, design), count in zip(PLANS.items(), words, strict=True):
        pairs = {(step.mode, step.word) for step in steps(design) if step.repeat == 1}
        lanes = design.formats(0)[2]
        assert count >= 256 * lanes * len(design.modes), name
        for mode in range(len(design.modes)):
            for lane in range(lanes):
                seen = {(word >> 4 * lane & 15, word >> design.a_bits + 4 * lane & 15)
                        for one, word in pairs if one == mode}
                assert len(seen) == 256, f"{name}, mode {mode}, lane {lane}"


@pytest.mark.slow
def test_every_kind_of_pe():
    assert min(checked(MORE)) >= 100


def test_fp4_results_are_sums_of_the_published_values():
    """The values of E2M1, written down here, summed as fractions of a quarter: independent of the golden model."""
    quarters = [0, 1, 2, 3, 4, 6, 8, 12]
    value = [*quarters, *(-one for one in quarters)]        # in halves; products are quarters
    total = 0
    for step in steps(PLANS["byte"]):
        total = 0 if step.clear else total
        total += step.repeat * value[step.word & 15] * value[step.word >> 4]
        assert (step.result, step.flags) == (total, 0)


def test_a_host_reads_what_the_accumulator_holds():
    merged = PinsDesign(MorphableDesign(("fp4", "posit16_1"), implementation="merged"))
    starts = merged.pe.sections(merged.pe.modes[0])
    parts = [-5, 7, -1, 2]
    ends = [*starts[1:], merged.pe.accumulator_bits]
    raw = sum((part & (1 << end - start) - 1) << start
              for part, start, end in zip(parts, starts, ends, strict=True))
    raw |= -(raw >> merged.pe.accumulator_bits - 1) << merged.pe.accumulator_bits    # the sign in the last byte
    whole = raw & (1 << 8 * merged.result_bytes) - 1
    assert read(merged, 0, [*whole.to_bytes(merged.result_bytes, "little"), 1]) == (sum(parts), 1)
    one = PLANS["byte"]
    assert read(one, 0, [0xFF, 0xFF, 0xFF]) == (-1, 0)


def test_pins_of_idle_edges_are_anything():
    """The stimuli are no quiet ones: what must not matter changes."""
    design = PLANS["flag"]
    pins = edges(design, steps(design))
    assert len(set((pins.ui[pins.reads] >> design.select_bits).tolist())) == 32
    assert {0, 1} == set(pins.rst_n.tolist()) and set(pins.uio.tolist()) == {0, 0x20, 0x40, 0x60}


def test_wrong_results_are_reported():
    class Swapped(PinsPe):
        """Takes the first two bytes of a word for each other."""

        module_name = "swapped"

        def _word(self, m):
            word = super()._word(m)
            return Cat(word[8:16], word[:8], word[16:])

    with pytest.raises(BitkilnError, match="block and golden function differ"):
        check_block(Swapped(dot("fp4", lanes=3)))


@pytest.mark.skipif(find("yosys") is None, reason="no Yosys: pip install 'bitkiln[test]'")
def test_vectors_kill_what_yosys_breaks_around_the_pe():
    component = next(one for one in engine_blocks("pins") if one.design == dot("posit4_1", lanes=1))
    result = mutate_block(component, own_only=True, count=60)
    assert result.relevant >= 60 and result.rate == 1.0, result.survivors
