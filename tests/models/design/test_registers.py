"""The register map: what the description refuses, what a build has, and jobs to registers and back."""

import math
import random
import struct
from dataclasses import replace

import pytest

from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_REGISTERS,
    ERRORS,
    NEXT_WORD,
    Field,
    Register,
    RegisterMap,
    core_registers,
    decode,
    descriptor,
    job_registers,
)
from bitkiln.models.errors import BitkilnError

PE = MorphableDesign(("fp4", "posit8_0", "int8"))
FULL = MatmulDesign(ArrayDesign(4, 8, PE), block=("mxfp4", "nvfp4"), descriptors=True, address_bits=40, output_lanes=1)
SMALL = MatmulDesign(ArrayDesign(2, 2, MorphableDesign(("int8",), Accumulator(kind="int32"))), rules=("raw",),
                     bias=False, accumulate=False, queue=1, k_words=64, bus_bits=32)

# The offsets that drivers rely on; a change here is a new major version.
OFFSETS = {
    "ID": 0x00, "VERSION": 0x04, "SHAPE": 0x08, "LIMITS": 0x0C, "FEATURES": 0x10, "CTRL": 0x14, "STATUS": 0x18,
    "ERROR": 0x1C, "IRQ": 0x20, "IRQ_ENABLE": 0x24, "JOBS_DONE": 0x28, "LAST_TAG": 0x2C, "JOB_MODE": 0x40,
    "JOB_M": 0x44, "JOB_K": 0x48, "JOB_N": 0x4C, "JOB_FLAGS": 0x50, "JOB_SCALE": 0x54, "JOB_SHIFT": 0x58,
    "JOB_ZERO": 0x5C, "JOB_CLAMP_LOW": 0x60, "JOB_CLAMP_HIGH": 0x64, "JOB_TAG": 0x68, "A_ADDR": 0x80,
    "A_ADDR_HI": 0x84, "A_STRIDE": 0x88, "A_SCALE_ADDR": 0x8C, "A_SCALE_ADDR_HI": 0x90, "A_SCALE_STRIDE": 0x94,
    "W_ADDR": 0x98, "W_ADDR_HI": 0x9C, "W_STRIDE": 0xA0, "W_SCALE_ADDR": 0xA4, "W_SCALE_ADDR_HI": 0xA8,
    "W_SCALE_STRIDE": 0xAC, "RECORD_ADDR": 0xB0, "RECORD_ADDR_HI": 0xB4, "C_ADDR": 0xB8, "C_ADDR_HI": 0xBC,
    "C_STRIDE": 0xC0, "O_ADDR": 0xC4, "O_ADDR_HI": 0xC8, "O_STRIDE": 0xCC, "DESC_ADDR": 0xD0, "DESC_ADDR_HI": 0xD4,
    "CYCLES": 0x100, "CYCLES_HI": 0x104, "COMPUTE": 0x108, "COMPUTE_HI": 0x10C, "STALL_A": 0x110,
    "STALL_A_HI": 0x114, "STALL_W": 0x118, "STALL_W_HI": 0x11C, "STALL_DRAIN": 0x120, "STALL_DRAIN_HI": 0x124,
    "STALL_C": 0x128, "STALL_C_HI": 0x12C, "STALL_OUT": 0x130, "STALL_OUT_HI": 0x134, "MACS": 0x138, "MACS_HI": 0x13C,
}
# Bit positions, the same way.
BITS = {
    "SHAPE": {"rows": (7, 0), "columns": (15, 8), "output_lanes": (23, 16), "queue": (31, 24)},
    "LIMITS": {"k_words": (15, 0), "bus_log2": (19, 16), "raw_log2": (23, 20), "mode_count": (27, 24),
               "output_count": (31, 28)},
    "CTRL": {"start": (0, 0), "abort": (1, 1), "clear_counters": (2, 2), "fetch": (3, 3)},
    "STATUS": {"busy": (0, 0), "queue_full": (1, 1), "aborting": (2, 2), "error": (3, 3), "queued": (7, 4),
               "tag": (23, 8)},
    "ERROR": {"code": (7, 0), "tag": (23, 8)},
    "IRQ": {"done": (0, 0), "error": (1, 1), "invalid": (2, 2), "overflow": (3, 3)},
    "JOB_MODE": {"mode": (3, 0), "output": (11, 8), "block": (19, 16)},
    "JOB_FLAGS": {"rule": (1, 0), "order": (2, 2), "per_channel": (3, 3), "bias": (4, 4), "accumulate": (5, 5),
                  "clamp": (6, 6), "wait": (7, 7)},
    "JOB_SHIFT": {"shift": (5, 0), "bias_shift": (11, 8)},
}


def test_offsets_of_the_full_build():
    assert {register.name: register.offset for register in core_registers(FULL)} == OFFSETS


@pytest.mark.parametrize("name", BITS)
def test_bits(name):
    assert {f.name: (f.high, f.low) for f in core_registers(FULL)[name].fields} == BITS[name]


def test_a_build_has_only_what_it_can_do():
    full, small = core_registers(FULL), core_registers(SMALL)
    assert set(small._by_name) < set(full._by_name)
    assert all(small[register.name].offset == full[register.name].offset for register in small)
    for name in ("JOB_SCALE", "JOB_SHIFT", "JOB_ZERO", "JOB_CLAMP_LOW", "A_ADDR", "DESC_ADDR", "STALL_C"):
        assert name not in small and small.get(name) is None
    assert [f.name for f in small["JOB_MODE"].fields] == ["mode"]
    assert [f.name for f in small["JOB_FLAGS"].fields] == ["rule", "order"]
    assert [f.name for f in small["CTRL"].fields] == ["start", "abort", "clear_counters"]
    narrow = core_registers(replace(FULL, address_bits=24, block=(), accumulate=False))
    assert narrow["A_ADDR"].fields[0].bits == narrow["A_STRIDE"].fields[0].bits == 24
    for name in ("A_ADDR_HI", "A_SCALE_ADDR", "W_SCALE_STRIDE", "C_ADDR"):
        assert name not in narrow


def test_constants_tell_the_build():
    def read(design, name):
        register = core_registers(design)[name]
        return register.unpack(register.constant)

    assert core_registers(FULL)["ID"].constant.to_bytes(4, "little") == b"LKTB"
    assert read(FULL, "SHAPE") == {"rows": 4, "columns": 8, "output_lanes": 1, "queue": 2}
    assert read(FULL, "LIMITS") == {"k_words": 512, "bus_log2": 6, "raw_log2": 6, "mode_count": 3, "output_count": 4}
    assert read(SMALL, "LIMITS") == {"k_words": 64, "bus_log2": 5, "raw_log2": 5, "mode_count": 1, "output_count": 1}
    assert [name for name, on in read(FULL, "FEATURES").items() if on] == [
        "raw", "integer", "float", "bias", "accumulate", "block", "descriptors"]
    assert [name for name, on in read(SMALL, "FEATURES").items() if on] == ["raw", "int32_sums"]


def test_choices_are_numbered_as_the_hardware_numbers_them():
    flat = core_registers(FULL).flat
    assert dict(flat["job_mode_mode"][1].enum) == {"fp4": 0, "posit8_0": 1, "int8": 2}
    assert dict(flat["job_mode_output"][1].enum) == {"fp4": 0, "posit8_0": 1, "int8": 2, "fp32": 3}
    assert dict(flat["job_mode_block"][1].enum) == {"none": 0, "mxfp4": 1, "nvfp4": 2}
    only = core_registers(replace(FULL, rules=("float",))).flat
    assert dict(only["job_flags_rule"][1].enum) == {"float": 2}
    assert dict(flat["error_code"][1].enum) == ERRORS


BIT = Field("a", 0, 1, "rw", "")


@pytest.mark.parametrize("make, what", [
    (lambda: Field("A", 0, 1, "rw", ""), "illegal name"),
    (lambda: Field("a", 0, 1, "r", ""), "unknown access"),
    (lambda: Field("a", 31, 2, "rw", ""), "outside"),
    (lambda: Field("a", 0, 0, "rw", ""), "outside"),
    (lambda: Field("a", 0, 2, "rw", "", enum={"x": 4}), "does not fit"),
    (lambda: Field("a", 0, 2, "rw", "", constant=1), "contradictory"),
    (lambda: Register("R", 2, (BIT,), ""), "illegal offset"),
    (lambda: Register("R", 0x1000, (BIT,), ""), "illegal offset"),
    (lambda: Register("r", 0, (BIT,), ""), "illegal name"),
    (lambda: Register("R", 0, (), ""), "no fields"),
    (lambda: Register("R", 0, (Field("a", 0, 4, "rw", ""), Field("b", 3, 4, "rw", "")), ""), "fields overlap"),
    (lambda: Register("R", 0, (Field("a", 0, 4, "rw", ""), Field("a", 4, 4, "rw", "")), ""), "named twice"),
    (lambda: Register("R", 0, (BIT, Field("b", 3, 4, "ro", "")), ""), "different access"),
    (lambda: RegisterMap("m", (Register("R", 4, (BIT,), ""), Register("S", 4, (BIT,), ""))), "registers overlap"),
    (lambda: RegisterMap("m", (Register("R", 0, (BIT,), ""), Register("R", 4, (BIT,), ""))), "named twice"),
    (lambda: RegisterMap("m", (Register("R", 0, (Field("s_a", 0, 1, "rw", ""),), ""),
                               Register("R_S", 4, (BIT,), ""))), "one flat name"),
    (lambda: core_registers(FULL)["JOB_MOD"], "no such register"),
    (lambda: core_registers(FULL)["JOB_M"].field("x"), "no such field"),
    (lambda: core_registers(FULL)["JOB_M"].pack(value=1 << 16), "does not fit"),
    (lambda: core_registers(FULL)["JOB_ZERO"].pack(value=1 << 15), "does not fit"),
])
def test_what_a_description_refuses(make, what):
    with pytest.raises(BitkilnError, match=what):
        make()


def test_pack_and_unpack():
    register = core_registers(FULL)["STATUS"]
    word = register.pack(busy=1, queued=3, tag=0xBEEF)
    assert word == 0xBEEF31
    assert register.unpack(word) == {"busy": 1, "queue_full": 0, "aborting": 0, "error": 0, "queued": 3, "tag": 0xBEEF}
    zero = core_registers(FULL)["JOB_ZERO"]
    assert zero.pack(value=-2) == 0xFFFE and zero.unpack(0xFFFE) == {"value": -2}


def random_job(rng: random.Random) -> Job:
    rule = rng.choice(("raw", "integer", "float"))
    block = rng.choice(FULL.block) if rng.random() < 0.3 and rule != "integer" else None
    mode = "fp4" if block else rng.choice(("fp4", "posit8_0", "int8"))
    per_channel = rng.random() < 0.5
    options = {}
    if rule == "integer":
        options = {"output": "int8", "scale": rng.getrandbits(31), "shift": rng.randrange(63),
                   "zero_point": rng.randrange(-128, 128), "clamp": rng.choice((None, (-100, 50)))}
    elif rule == "float":
        scale = struct.unpack("<f", struct.pack("<f", math.exp(rng.uniform(-20, 20))))[0]
        options = {"output": rng.choice(FULL.outputs), "scale": scale, "zero_point": rng.randrange(-128, 128),
                   "clamp": rng.choice((None, (0.0, math.inf), (-1.5, 3.25)))}
    return Job(mode, rng.randint(1, 65535), rng.randint(1, 1024), rng.randint(1, 65535), rule=rule,
               order=rng.choice("aw"), per_channel=per_channel, bias=per_channel and rng.random() < 0.5,
               bias_shift=rng.randrange(16), accumulate=rng.random() < 0.5, block=block, tag=rng.getrandbits(16),
               **options)


def test_jobs_to_registers_and_back():
    rng = random.Random(5)
    for _ in range(300):
        job = random_job(rng)
        values = job_registers(FULL, job)
        assert all(0 <= value < 1 << 32 for value in values.values())
        assert list(values) == list(DESCRIPTOR_REGISTERS[:11])
        assert (decode(FULL, values), decode(FULL, values).tag) == (job, job.tag)


def test_one_job_by_hand():
    job = Job("int8", 5, 600, 7, rule="float", output="fp32", order="w", per_channel=True, bias=True, bias_shift=2,
              scale=0.25, clamp=(0, math.inf), accumulate=True, zero_point=-3, tag=9)
    assert job_registers(FULL, job) == {
        "JOB_MODE": 0x302, "JOB_M": 5, "JOB_K": 600, "JOB_N": 7, "JOB_FLAGS": 0b1111110, "JOB_SCALE": 0x3E800000,
        "JOB_SHIFT": 0x200, "JOB_ZERO": 0xFFFD, "JOB_CLAMP_LOW": 0, "JOB_CLAMP_HIGH": 0x7F800000, "JOB_TAG": 9}
    integer = Job("int8", 1, 1, 1, rule="integer", output="int8", scale=3, shift=62, clamp=(-7, 7))
    values = job_registers(FULL, integer)
    assert (values["JOB_CLAMP_LOW"], values["JOB_SCALE"], values["JOB_SHIFT"]) == (0xFFFFFFF9, 3, 62)


def test_floats_beyond_float32_and_nan():
    job = Job("fp4", 1, 1, 1, rule="float", output="fp32", scale=math.nan, clamp=(-1e300, 1e300))
    values = job_registers(FULL, job)
    assert (values["JOB_SCALE"], values["JOB_CLAMP_LOW"], values["JOB_CLAMP_HIGH"]) == (0x7FC00000, 0xFF800000,
                                                                                        0x7F800000)


def test_registers_that_name_nothing_are_refused():
    values = job_registers(FULL, Job("int8", 1, 1, 1))
    for change in ({"JOB_MODE": 3}, {"JOB_FLAGS": 3}, {"JOB_MODE": 0x400, "JOB_FLAGS": 2}, {"JOB_MODE": 0x30000},
                   {"JOB_M": 0}, {"JOB_MODE": 0x10002}):
        with pytest.raises(BitkilnError):
            decode(FULL, {**values, **change})


def test_what_a_small_build_has_no_register_for_is_refused():
    with pytest.raises(BitkilnError, match="no register"):
        job_registers(SMALL, Job("int8", 1, 1, 1, per_channel=True))
    assert list(job_registers(SMALL, Job("int8", 1, 1, 1))) == ["JOB_MODE", "JOB_M", "JOB_K", "JOB_N", "JOB_FLAGS",
                                                                "JOB_TAG"]


def test_descriptor_in_memory():
    values = {**job_registers(FULL, Job("int8", 5, 6, 7, tag=3)), "A_ADDR": 0x12_3456_7890, "O_STRIDE": 77}
    raw = descriptor(FULL, values, 0x1_0000_0080)
    words = struct.unpack("<32I", raw)
    assert len(raw) == DESCRIPTOR_BYTES and len(DESCRIPTOR_REGISTERS) == NEXT_WORD == 31
    assert words[:4] == (2, 5, 6, 7)
    assert words[11:13] == (0x34567890, 0x12)
    assert words[30:] == (77, 0x80)
    assert struct.unpack("<32I", descriptor(FULL, values, wait=True))[4] == words[4] | 0x80
    # The words are the registers of the map, in its order.
    inside = [register.name for register in core_registers(replace(FULL, address_bits=64))
              if register.name in DESCRIPTOR_REGISTERS]
    assert inside == list(DESCRIPTOR_REGISTERS)
    for bad in ({"A_ADDR": 1 << 40}, {"CTRL": 1}):
        with pytest.raises(BitkilnError):
            descriptor(FULL, bad)
    with pytest.raises(BitkilnError, match="multiple of 128"):
        descriptor(FULL, {}, 64)
