"""Parameters of the matmul array and core, and what makes a job illegal."""

import pytest

from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.matmul import DRAIN_CYCLES
from bitkiln.models.errors import BitkilnError


def array(rows=4, columns=4, modes=("fp4", "int8"), accumulator=None, **options):
    return ArrayDesign(rows, columns, MorphableDesign(modes, accumulator or Accumulator()), **options)


def core(modes=("fp4", "int8"), accumulator=None, rows=4, columns=4, **options):
    return MatmulDesign(array(rows, columns, modes, accumulator), **options)


EXACT = core()
FP32 = core(accumulator=Accumulator(kind="fp32"))
WIDE = core(("int8", "posit16_1", "fp8_e4m3"))


def test_defaults():
    assert core(("posit16_1", "fp4")).rules == FP32.rules == ("raw", "float")   # nothing for the integer rule to do
    assert EXACT.outputs == ("fp4", "int8", "fp32") and EXACT.rules == ("raw", "integer", "float")
    assert core(rules=("raw", "integer"), modes=("int8xint4", "int8")).outputs == ("int8",)
    assert core(("fixed8_6", "int8")).outputs == ("int8", "fp32")   # no output stage for fixed point
    assert core(("int8",), rules=("raw",), outputs=()).outputs == ()
    assert core(outputs=()).rules == ("raw",)


@pytest.mark.parametrize("rows, columns", [(1, 1), (4, 4), (8, 8), (16, 16), (8, 12), (16, 6), (64, 64), (64, 5),
                                           (32, 12)])
def test_default_output_lanes_drain_in_time(rows, columns):
    """The fewest lanes that drain a tile in DRAIN_CYCLES; as many as fit where none does."""
    fits = [lanes for lanes in (1, 2, 4, 8, 16, 32, 64) if columns % lanes == 0]
    in_time = [lanes for lanes in fits if rows * columns / lanes <= DRAIN_CYCLES]
    assert core(rows=rows, columns=columns).output_lanes == (in_time or fits[-1:])[0]


@pytest.mark.parametrize("modes, kind, bits, raw", [
    (("fp4",), "exact", 19, 32), (("int8",), "exact", 26, 32), (("posit8_0",), "exact", 36, 64),
    (("fp8_e5m2",), "exact", 75, 128), (("posit16_1",), "exact", 124, 128), (("int8",), "int32", 32, 32),
    (("posit16_1",), "fp32", 32, 32), (("posit16_2",), "exact", 236, 256)])
def test_raw_width_is_the_next_bus_width(modes, kind, bits, raw):
    design = core(modes, Accumulator(kind=kind))
    assert (design.pe.result_bits, design.raw_bits, design.floating) == (bits, raw, kind == "fp32")


def test_longest_k():
    assert [core(k_words=64).max_k(mode) for mode in ("fp4", "int8")] == [256, 128]
    assert core(k_words=512).max_k("fp4") == 1024      # the accumulator's depth
    assert core(k_words=512, accumulator=Accumulator(kind="fp32")).max_k("fp4") == 2048


def test_names_tell_designs_apart():
    variants = [EXACT, FP32, core(rows=2), core(columns=2), core(k_words=64), core(bus_bits=128),
                core(rows=16, columns=16), core(output_lanes=4), core(queue=4), core(rules=("raw", "float")),
                core(outputs=("int8",)), core(bias=False), core(accumulate=False), core(block=("mxfp4",)),
                core(descriptors=True), core(descriptors=True, address_bits=64), core(counters=False)]
    assert len({design.name for design in variants}) == len(variants)
    assert len({array().name, array(links="systolic").name, array(dataflow="weight").name, array(2, 8).name}) == 4
    many = core(("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int8", "int8xfp4", "posit16_1"))
    assert len(many.name) <= 120 and many.name != many.with_options(k_words=64).name


@pytest.mark.parametrize("make, message", [
    (lambda: array(0), "error: out of range at array.rows: got 0, expected 1 to 64"),
    (lambda: array(4, 65), "error: out of range at array.columns: got 65, expected 1 to 64"),
    (lambda: array(4.0), "error: not an integer at array.rows: got 4.0, expected an integer 1 to 64"),
    (lambda: array(dataflow="weights"),
     "error: unknown choice at array.dataflow: got 'weights', expected output or weight\nhelp: did you mean weight?"),
    (lambda: array(links="bus"),
     "error: unknown choice at array.links: got 'bus', expected broadcast or systolic\n"
     "help: choices: broadcast, systolic"),
    (lambda: MatmulDesign(array(dataflow="weight")),
     "error: the core needs an output-stationary array at array.dataflow: got 'weight', expected output"),
    (lambda: core(k_words=8), "error: out of range at k_words: got 8, expected 16 to 4096"),
    (lambda: core(k_words=48), "error: not a power of two at k_words: got 48, expected 16, 32, ... 4096"),
    (lambda: core(bus_bits=16),
     "error: unknown bus width at bus_bits: got 16, expected 32, 64, 128, 256 or 512"),
    (lambda: core(output_lanes=5), "error: out of range at output_lanes: got 5, expected 1 to 4"),
    (lambda: core(output_lanes=3),
     "error: does not divide the columns at output_lanes: got 3, expected a divisor of 4"),
    (lambda: core(columns=6, output_lanes=3),
     "error: not a power of two at output_lanes: got 3, expected 1, 2, 4, ... dividing the columns"),
    (lambda: core(("fp4", "int8"), columns=3, descriptors=True, accumulate=False),
     "error: a tile of 4-bit results does not end at a byte at array.columns: got 3, expected an even number with "
     "descriptors"),
    (lambda: core(("int8",), columns=3, descriptors=True),
     "error: a tile of partial sums does not end at a beat at array.columns: got '3 of 32 bits', expected a multiple "
     "of 64 bits with descriptors and accumulate"),
    (lambda: core(("nf4xnf4", "int8")),
     "error: code 0 is not zero in both formats of the mode at array.pe.modes: got 'nf4xnf4', expected a mode whose "
     "padding adds nothing"),
    (lambda: core(queue=0), "error: out of range at queue: got 0, expected 1 to 4"),
    (lambda: core(address_bits=8), "error: out of range at address_bits: got 8, expected 16 to 64"),
    (lambda: core(rules=()), "error: no output rule at rules: got '[]', expected raw or integer or float"),
    (lambda: core(rules="raw"), "error: not a list of names at rules: got 'raw', expected a list, such as [raw]"),
    (lambda: core(rules=("raw", "raw")), "error: named twice at rules: got 'raw', expected each name once"),
    (lambda: core(rules=("raw", "int")),
     "error: unknown choice at rules: got 'int', expected raw or integer or float\n"
     "help: did you mean integer?"),
    (lambda: core(("fp8_e5m2", "int8"), rules=("integer",), outputs=("fp8_e5m2",)),
     "error: integer requantisation does not apply at rules: got 'integer', expected an int format among the outputs "
     "and a mode with sums of at most 48 bits\nhelp: leave it out"),
    (lambda: core(("posit16_1",), rules=("raw", "integer"), outputs=("int8",)),
     "error: integer requantisation does not apply at rules: got 'integer', expected an int format among the outputs "
     "and a mode with sums of at most 48 bits\nhelp: leave it out"),
    (lambda: core(outputs=(8,)), "error: not a list of names at outputs: got (8,), expected a list of strings"),
    (lambda: core(rules=("raw", "float"), outputs=()),
     "error: no output format at outputs: got '[]', expected at least one with these rules"),
    (lambda: core(outputs=("int8", "int8")), "error: named twice at outputs: got 'int8', expected each name once"),
    (lambda: core(outputs=("nf4",)),
     "error: no output stage for this format at outputs: got 'nf4', expected int, minifloat or posit of 4, 8 or 16 "
     "bits, or fp32"),
    (lambda: core(outputs=("int6",)),
     "error: no output stage for this format at outputs: got 'int6', expected int, minifloat or posit of 4, 8 or 16 "
     "bits, or fp32"),
    (lambda: core(outputs=tuple(f"posit16_{es}" for es in range(5)) + tuple(f"posit8_{es}" for es in range(5))
                  + ("int4", "int8", "int16", "fp4", "bf16", "fp32")),
     "error: too many at outputs: got 16, expected at most 15"),
    (lambda: core(tuple(f"posit8_{es}" for es in range(5))
                  + ("int4", "int8", "int16", "fp4", "uint4", "uint8", "uint16", "fp8_e4m3", "fp8_e5m2", "posit4_0",
                     "posit4_1")),
     "error: too many at array.pe.modes: got 16, expected at most 15"),
    (lambda: core(("posit16_4",)),
     "error: sums too wide at array.pe.modes: got 908, expected at most 512 bits\nhelp: use accumulator kind fp32"),
    (lambda: core(block=("mxfp8_e4m3",)),
     "error: no mode for this block format at block: got 'mxfp8_e4m3', expected fp8_e4m3 among the modes"),
    (lambda: core(("int8xfp4",), block=("mxfp4",)),
     "error: no mode for this block format at block: got 'mxfp4', expected fp4 among the modes"),
    (lambda: core(block=("mxfp4",), accumulator=Accumulator(kind="fp32")),
     "error: contradictory options at block: got 'fp32', expected an exact accumulator with block scales"),
])
def test_refused_designs(make, message):
    with pytest.raises(BitkilnError) as caught:
        make()
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def job(mode="int8", m=4, k=8, n=4, design=EXACT, **options):
    return lambda: Job(mode, m, k, n, **options).check(design)


def test_legal_jobs():
    for make in (job(), job(k=1024), job(m=65535, n=65535), job(rule="integer", output="int8", clamp=(0, 127)),
                 job(rule="float", output="fp32", scale=0.5, clamp=(0, float("inf"))),
                 job(rule="float", output="fp4", scale=3), job(per_channel=True, bias=True, bias_shift=15),
                 job("fp4", design=core(block=("mxfp4",)), block="mxfp4", rule="float", output="fp32")):
        assert make().m >= 4
    assert Job("int8", 1, 1, 1, tag=3) == Job("int8", 1, 1, 1)


@pytest.mark.parametrize("make, message", [
    (job("int4"), "error: this PE has no such mode at job.mode: got 'int4', expected fp4 or int8\n"
                  "help: did you mean int8?"),
    (job(m=0), "error: out of range at job.m: got 0, expected 1 to 65535"),
    (job(n=65536), "error: out of range at job.n: got 65536, expected 1 to 65535"),
    (job(k=2.0), "error: not an integer at job.k: got 2.0, expected an integer 1 to 65535"),
    (job(k=1025), "error: K too large for one job at job.k: got 1025, expected at most 1024 in mode int8\n"
                  "help: split K over jobs with accumulate"),
    (job(rule="integers"), "error: unknown choice at job.rule: got 'integers', expected raw or integer or float\n"
                           "help: did you mean integer?"),
    (job(rule="float", design=core(rules=("raw",))),
     "error: unknown choice at job.rule: got 'float', expected raw\nhelp: choices: raw"),
    (job(order="b"), "error: unknown choice at job.order: got 'b', expected a or w\nhelp: choices: a, w"),
    (job(rule="float", output="int4"),
     "error: unknown choice at job.output: got 'int4', expected fp4 or int8 or fp32\nhelp: did you mean int8?"),
    (job(rule="integer", output="fp4"),
     "error: integer requantisation does not apply at job.rule: got 'int8', expected an integer output and sums of at "
     "most 48 bits\nhelp: use rule float"),
    (job("posit16_1", rule="integer", output="int8", design=WIDE),
     "error: integer requantisation does not apply at job.rule: got 'posit16_1', expected an integer output and sums "
     "of at most 48 bits\nhelp: use rule float"),
    (job(rule="integer", output="int8", design=FP32),
     "error: unknown choice at job.rule: got 'integer', expected raw or float\nhelp: choices: raw, float"),
    (job("fp4", rule="integer", output="int8", block="mxfp4", design=core(block=("mxfp4",))),
     "error: integer requantisation does not apply at job.rule: got 'fp4', expected an integer output and sums of at "
     "most 48 bits\nhelp: use rule float"),
    (job(rule="integer", output="int8", scale=1 << 31),
     "error: out of range at job.scale: got 2147483648, expected 0 to 2147483647"),
    (job(rule="integer", output="int8", scale=0.5),
     "error: not an integer at job.scale: got 0.5, expected an integer 0 to 2147483647"),
    (job(rule="integer", output="int8", shift=63), "error: out of range at job.shift: got 63, expected 0 to 62"),
    (job(rule="integer", output="int8", clamp=(0, 1 << 31)),
     "error: out of range at job.clamp: got 2147483648, expected -2147483648 to 2147483647"),
    (job(rule="integer", output="int8", clamp=(0, float("inf"))),
     "error: not an integer at job.clamp: got inf, expected an integer -2147483648 to 2147483647"),
    (job(rule="float", output="int8", clamp=(0,)),
     "error: not a pair at job.clamp: got (0,), expected (low, high)"),
    (job(rule="float", output="int8", clamp=(0, "big")),
     "error: not a number at job.clamp: got 'big', expected a float32 value"),
    (job(rule="float", output="int8", scale="1"),
     "error: not a number at job.scale: got '1', expected a float32 value"),
    (job(zero_point=1 << 15), "error: out of range at job.zero_point: got 32768, expected -32768 to 32767"),
    (job(bias_shift=16), "error: out of range at job.bias_shift: got 16, expected 0 to 15"),
    (job(bias=True, per_channel=True, design=core(bias=False)),
     "error: this core was built without it at job.bias: got 'true', expected false"),
    (job(accumulate=True, design=core(accumulate=False)),
     "error: this core was built without it at job.accumulate: got 'true', expected false"),
    (job(bias=True),
     "error: contradictory options at job.bias: got 'true', expected per_channel with bias"),
    (job(block="mxfp4"), "error: this core was built without it at job.block: got 'mxfp4', expected no block scales"),
    (job("fp4", block="nvfp4", design=core(block=("mxfp4",))),
     "error: unknown choice at job.block: got 'nvfp4', expected mxfp4\nhelp: did you mean mxfp4?"),
    (job("int8", block="mxfp4", design=core(block=("mxfp4",))),
     "error: contradictory options at job.block: got 'int8', expected mode fp4 with mxfp4"),
])
def test_refused_jobs(make, message):
    with pytest.raises(BitkilnError) as caught:
        make()
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
