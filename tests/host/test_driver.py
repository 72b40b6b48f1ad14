"""The Python driver on a core made of the golden model: what it writes, sends and makes of the answers."""

import numpy as np
import pytest

from bitkiln.host.driver import Core, error_text, fixed_multiplier
from bitkiln.host.packing import Records, beats_of, pack_a, pack_c, pack_results, pack_w, unpack_rows
from bitkiln.host.transport import Transport
from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import ERRORS, core_registers, decode
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format, get_group_format
from bitkiln.models.golden.matmul import matmul
from bitkiln.models.quantize import rtn

SEED = 77


def build(modes=("int8", "fp4", "posit8_0", "int8xint4"), rows=4, columns=4, kind="exact", depth=1024, k_words=64,
          **options):
    pe = MorphableDesign(modes, Accumulator(kind=kind, depth=depth), implementation="parallel")
    return MatmulDesign(ArrayDesign(rows, columns, pe), k_words=k_words, **options)


class GoldenCore(Transport):
    """Registers in a dictionary; a job runs when its results are asked for. Streams are read element by element in
    the order of the contract, without the driver's own packing."""

    def __init__(self, design):
        self.design, self.map = design, core_registers(design)
        self.values = {register.name: register.constant or 0 for register in self.map}
        self.beats = {name: [] for name in "awc"}
        self.jobs, self.done, self.writes, self.refuse = [], [], [], None
        self.silent = False

    def read32(self, address):
        register = self.map.at(address)
        if register.name == "STATUS":
            return register.pack(error=int(self.values["ERROR"] != 0), queue_full=int(
                len(self.jobs) > self.design.queue), queued=max(0, len(self.jobs) - 1), busy=int(bool(self.jobs)))
        return self.values[register.name]

    def write32(self, address, value):
        register = self.map.at(address)
        self.writes.append((register.name, value))
        if register.name == "ERROR":
            self.values["ERROR"] = 0
        elif register.name == "IRQ":
            self.values["IRQ"] &= ~value
        elif register.name == "CTRL":
            fields = register.unpack(value)
            if fields["start"]:
                job = decode(self.design, self.values)
                if self.refuse:
                    self.values["ERROR"] = self.map["ERROR"].pack(code=self.refuse, tag=job.tag)
                else:
                    self.jobs.append(job)
            if fields["abort"]:
                self.jobs.clear()
        else:
            assert register.access == "rw", register.name
            self.values[register.name] = value

    def wait(self):
        return False

    def send(self, stream, beats):
        self.beats[stream] += [beat.tobytes() for beat in beats]

    def flush(self):
        self.beats = {name: [] for name in "awc"}

    def take(self, stream, elements, bits):
        """One row from a stream."""
        count = -(-elements * bits // self.design.bus_bits)
        data, self.beats[stream] = b"".join(self.beats[stream][:count]), self.beats[stream][count:]
        assert len(data) == count * self.design.bus_bits // 8, f"stream {stream} ran dry"
        return unpack_rows(np.frombuffer(data, np.uint8)[None], elements, bits)[0]

    def receive(self, count):
        if self.silent:
            raise BitkilnError("results do not come", exit_code=1)
        design, job = self.design, self.jobs.pop(0)
        mode = design.pe.modes[design.pe.index(job.mode)]
        blocks = -(-job.k // get_group_format(job.block).block_size) if job.block else 0
        found = {"a": np.zeros((job.m, job.k), int), "w": np.zeros((job.n, job.k), int),
                 "c": np.zeros((job.m, job.n), object), "as": np.zeros((job.m, blocks), int),
                 "ws": np.zeros((job.n, blocks), int)}
        records = np.zeros((job.n, 16), np.uint8)

        def panel(side, lines, bits):
            if side == "w" and job.per_channel:
                for line in lines:
                    records[line] = self.take("w", 16, 8)
            if blocks:
                for line in lines:
                    found[f"{side}s"][line] = self.take(side, blocks, 8)
            for line in lines:
                found[side][line] = self.take(side, job.k, bits)

        rows = [range(i, min(i + design.rows, job.m)) for i in range(0, job.m, design.rows)]
        columns = [range(j, min(j + design.columns, job.n)) for j in range(0, job.n, design.columns)]
        outer, inner = (rows, columns) if job.order == "a" else (columns, rows)
        sides = ("a", "w") if job.order == "a" else ("w", "a")
        widths = {"a": mode.activation.bits, "w": mode.weight.bits}
        for one in outer:
            panel(sides[0], one, widths[sides[0]])
            for two in inner:
                panel(sides[1], two, widths[sides[1]])
                tile = (one, two) if job.order == "a" else (two, one)
                for m in tile[0] if job.accumulate else ():
                    found["c"][m, list(tile[1])] = self.take("c", len(tile[1]), design.raw_bits)
        assert not any(self.beats.values()) or self.jobs, "beats too many"
        result = matmul(design, job, found["a"], found["w"], c=found["c"] if job.accumulate else None,
                        records=Records(*(np.ascontiguousarray(records[:, at]).view(kind).reshape(-1) for at, kind in (
                            (slice(0, 4), "<i4"), (slice(4, 8), "<u4"), (slice(8, 9), "u1"))))
                        if job.per_channel else None, a_scales=found["as"] if blocks else None,
                        w_scales=found["ws"] if blocks else None)
        self.values["IRQ"] |= 1 | int(result.invalid.any()) << 2 | int(result.overflow.any()) << 3
        self.done.append(job)
        beats = pack_results(design, job, result.codes)
        assert len(beats) == count == beats_of(design, job).results
        return beats


def driver(**options):
    design = build(**options)
    golden = GoldenCore(design)
    return Core(golden, design), golden


def data(rng, m, k, n):
    return rng.normal(size=(m, k)), rng.normal(size=(n, k)) * np.exp(rng.normal(size=(n, 1)))


@pytest.mark.parametrize("mode", ["int8", "fp4", "posit8_0", "int8xint4"])
def test_quantised_product_is_close(mode):
    core, golden = driver()
    rng = np.random.default_rng(SEED)
    a, w = data(rng, 9, 40, 7)
    bias = rng.normal(size=7)
    found = core.matmul(a, w, formats=mode, bias=bias)
    chosen = core.design.pe.modes[core.design.pe.index(mode)]
    left, right = rtn(a, chosen.activation), rtn(w, chosen.weight, axis=0)
    exact = left.dequantise() @ right.dequantise().T + bias
    assert found.values.dtype == np.float64 and found.codes.dtype == np.uint32
    # The bias is rounded to units of the sums.
    unit = left.scale * right.scale.reshape(-1) * 2.0 ** chosen.dot().product_exponent
    assert (np.abs(found.values - exact) <= 0.5 * unit + 1e-6 * np.abs(exact)).all()
    assert [job.rule for job in golden.done] == ["float"] and not found.invalid


def test_codes_and_raw_sums():
    core, golden = driver()
    rng = np.random.default_rng(SEED)
    a, w = rng.integers(-128, 128, (5, 30)), rng.integers(-128, 128, (6, 30))
    found = core.matmul(a, w, formats="int8", rule="raw")
    assert (found.values == a @ w.T).all() and found.codes.dtype == np.uint64
    # Scales say what the codes are worth.
    scaled = core.matmul(a & 255, w, formats="int8", rule="raw", scales=(0.5, np.arange(1, 7)))
    assert (scaled.values == (a @ w.T) * 0.5 * np.arange(1, 7)).all()
    assert golden.done[0].order == golden.done[1].order


def test_integer_output_equals_the_formula():
    core, golden = driver()
    rng = np.random.default_rng(SEED)
    a, w = rng.integers(-128, 128, (5, 64)), rng.integers(-128, 128, (6, 64))
    bias = rng.integers(-30000, 30000, 6)
    scales = rng.uniform(0.5, 2, 6)
    found = core.matmul(a, w, formats="int8", rule="integer", output="int8", scales=(0.01, scales), output_scale=8.0,
                        zero_point=-5, relu=True, bias=bias * 0.01 * scales)
    multiplier, shift = fixed_multiplier(0.01 * scales / 8.0)
    total = ((a @ w.T) + bias) * multiplier
    half = (1 << shift) >> 1
    floor, rest = total >> shift, total & ((1 << shift) - 1)
    y = floor + ((rest > half) | ((rest == half) & (floor & 1 == 1))) - 5
    y = np.clip(np.clip(y, -5, None), -128, 127)
    assert (get_format("int8").decode(found.codes) == y).all()
    assert (found.values == (y + 5) * 8.0).all() and (found.values >= 0).all()
    assert golden.done[0].per_channel and golden.done[0].bias and golden.done[0].clamp == (-5, (1 << 31) - 1)


def test_one_scale_needs_no_records():
    core, golden = driver()
    a, w = np.full((2, 4), 100), np.full((3, 4), 50)
    found = core.matmul(a, w, formats="int8", rule="integer", output="int8", output_scale=400.0)
    assert (found.values == 50 * 400).all()
    assert not golden.done[0].per_channel and beats_of(core.design, golden.done[0]).w == 3


@pytest.mark.parametrize("rule,output", [("raw", None), ("float", "fp32"), ("float", "posit8_0"), ("integer", "int8")])
def test_long_k_is_split_exactly(rule, output):
    """Jobs that hand on raw sums give what one large job gives."""
    small, golden = driver(k_words=16)
    large, _ = driver(k_words=512)
    rng = np.random.default_rng(SEED)
    a, w = rng.integers(-128, 128, (6, 333)), rng.integers(-128, 128, (5, 333))
    options = {"formats": "int8", "rule": rule, "output": output, "scales": (0.01, 0.02)}
    if rule != "raw":
        options |= {"output_scale": 4.0 if output != "fp32" else 1.0, "bias": rng.normal(size=5)}
    one, many = large.matmul(a, w, **options), small.matmul(a, w, **options)
    assert (one.codes == many.codes).all() and (one.values == many.values).all()
    assert len(one.jobs) == 1 and [job.k for job in many.jobs] == [32] * 10 + [13]
    assert [job.accumulate for job in golden.done] == [False] + [True] * 10
    assert [job.rule for job in golden.done] == ["raw"] * 10 + [rule]


def test_block_formats():
    core, golden = driver(modes=("fp4", "int8"), block=("mxfp4", "nvfp4"), k_words=16)
    rng = np.random.default_rng(SEED)
    a, w = data(rng, 5, 90, 6)
    for name, splits in (("mxfp4", 2), ("nvfp4", 2)):
        group = get_group_format(name)
        left, right = group.encode(a, pad=True), group.encode(w, pad=True)
        exact = group.decode(*left) @ group.decode(*right).T
        found = core.matmul(a, w, formats=name)
        np.testing.assert_allclose(found.values, exact, rtol=1e-5, atol=1e-5)
        assert len(found.jobs) == splits and all(job.k % group.block_size == 0 for job in found.jobs[:-1])
        assert [job.block for job in found.jobs] == [name] * splits


def test_float_sums():
    core, _ = driver(modes=("bf16",), kind="fp32", k_words=16)
    rng = np.random.default_rng(SEED)
    a, w = data(rng, 3, 37, 4)
    bias = rng.normal(size=4)
    found = core.matmul(a, w, bias=bias, relu=True)
    exact = np.maximum(get_format("bf16").decode(get_format("bf16").encode(a)) @ get_format("bf16").decode(
        get_format("bf16").encode(w)).T + bias, 0)
    np.testing.assert_allclose(found.values, exact, rtol=1e-5, atol=1e-5)
    assert len(found.jobs) == 3


def test_order_is_never_worse_than_a_fixed_one():
    core, golden = driver()
    rng = np.random.default_rng(SEED)
    for _ in range(12):
        m, k, n = (int(x) for x in rng.integers(1, 40, 3))
        a, w = rng.integers(0, 256, (m, k)), rng.integers(0, 256, (n, k))
        streamed = {order: sum(beats_of(core.design, job).streamed for job in
                               core.matmul(a, w, formats="int8", order=order).jobs) for order in ("a", "w", "auto")}
        assert streamed["auto"] == min(streamed.values())


def test_jobs_overlap():
    """The next job is in the queue, with its operands sent, before the results of the one before are taken."""
    core, golden = driver(k_words=16)
    seen = []
    receive = golden.receive
    golden.receive = lambda count: (seen.append(len(golden.jobs)), receive(count))[1]
    core.matmul(np.ones((4, 128), int), np.ones((4, 128), int), formats="int8", rule="raw")
    assert seen == [2, 2, 2, 1]


def test_explicit_jobs():
    core, golden = driver()
    rng = np.random.default_rng(SEED)
    a, w = rng.integers(0, 16, (3, 9)), rng.integers(0, 16, (5, 9))
    job = Job("fp4", 3, 9, 5, rule="float", output="fp4", scale=0.25, clamp=(-1.0, 3.0), order="w", tag=9)
    assert (core.run(job, a, w) == matmul(core.design, job, a, w).codes).all()
    ran = golden.done[0]
    assert ran == job   # the tag does not count
    with pytest.raises(BitkilnError, match="no job to collect"):
        core.collect()


def test_k_of_one_job_needs_no_split():
    """K that one job holds is not rounded down to whole words, whatever the accumulator's depth."""
    core, golden = driver(depth=63, accumulate=False)
    rng = np.random.default_rng(SEED)
    a, w = rng.integers(-128, 128, (3, 63)), rng.integers(-128, 128, (2, 63))
    assert (core.matmul(a, w, formats="int8", rule="raw").values == a @ w.T).all() and len(golden.done) == 1
    with pytest.raises(BitkilnError, match="at most 63"):
        core.matmul(np.zeros((1, 64), int), np.zeros((1, 64), int), formats="int8", rule="raw")


def test_bias_must_leave_room_for_the_sums():
    core, golden = driver(modes=("int8",))
    a, w = np.full((1, 100), 127), np.full((1, 100), 127)
    limit = 2 ** (core.design.raw_bits - 1)
    with pytest.raises(BitkilnError, match="bias"):
        core.matmul(a, w, formats="int8", rule="raw", bias=np.array([limit - 1000.0]))
    found = core.matmul(a, w, formats="int8", rule="raw", bias=np.array([limit - 2.0 ** 24]))
    assert found.values[0, 0] == limit - 2 ** 24 + 127 * 127 * 100


def test_another_core_is_refused():
    design = build()
    for name, value, message in (("ID", 1, "this is another core at ID: got 1, expected 1112820556"),
                                 ("VERSION", 2 << 16, "this is another core at VERSION.major: got 2, expected 1"),
                                 ("SHAPE", None, "this is another core at SHAPE.rows: got 5, expected 4")):
        golden = GoldenCore(design)
        golden.values[name] = golden.values[name] + 1 if value is None else value
        with pytest.raises(BitkilnError) as caught:
            Core(golden, design)
        assert message in str(caught.value)
    newer = GoldenCore(design)
    newer.values["VERSION"] += 3   # additions do no harm
    Core(newer, design)


def test_errors_of_the_core_are_named():
    core, golden = driver()
    golden.refuse = ERRORS["rule"]
    with pytest.raises(BitkilnError) as caught:
        core.matmul(np.ones((2, 2)), np.ones((2, 2)))
    assert "the core refused or ended a job at ERROR, tag 1: got 4" in str(caught.value)
    assert error_text(4) in str(caught.value) and golden.values["ERROR"] == 0 and not any(golden.beats.values())
    golden.refuse = None
    assert core.matmul(np.ones((2, 2)), np.ones((2, 2))).values.shape == (2, 2)
    golden.silent = True
    with pytest.raises(BitkilnError, match="results do not come"):
        core.matmul(np.ones((2, 2)), np.ones((2, 2)))
    golden.silent = False
    core.abort()
    assert core.matmul(np.ones((2, 2)), np.ones((2, 2))).values.shape == (2, 2)


@pytest.mark.parametrize("options,message", [
    ({"formats": "int4"}, "no such mode"),
    ({"rule": "raw", "relu": True}, "raw results are the sums themselves"),
    ({"bias": np.ones(2)}, "wrong shape at bias"),
    ({"scales": (0.0, 1.0)}, "out of range at scale of a"),
    ({"scales": (1.0, np.ones(2))}, "wrong number of scales at scale of w"),
    ({"rule": "integer", "output": "int8", "output_scale": 1e-30}, "scale out of range"),
    ({"bias": np.full(3, 1e30), "scales": (1.0, 1.0)}, "out of range at bias"),
])
def test_wrong_arguments(options, message):
    core, _ = driver()
    with pytest.raises(BitkilnError) as caught:
        core.matmul(np.ones((2, 4)), np.ones((3, 4)), **options)
    assert message in str(caught.value)


def test_wrong_operands():
    core, _ = driver()
    for a, w, message in ((np.ones((2, 4)), np.ones((3, 5)), "K differs"),
                          (np.ones(4), np.ones((3, 4)), "not a matrix"),
                          (np.full((2, 4), 300), np.ones((3, 4)), "not codes at a")):
        with pytest.raises(BitkilnError) as caught:
            core.matmul(a, w)
        assert message in str(caught.value)
    short, _ = driver(accumulate=False, k_words=16)
    with pytest.raises(BitkilnError, match="K too large for this core"):
        short.matmul(np.ones((2, 40)), np.ones((3, 40)))


def test_fixed_multipliers():
    rng = np.random.default_rng(SEED)
    ratio = np.concatenate([2.0 ** rng.uniform(-60, 30, 500), [0.0, 1.0, 2.0 ** 30, 1 - 2.0 ** -40, 2.0 ** -62]])
    multiplier, shift = fixed_multiplier(ratio)
    assert (multiplier >= 0).all() and (multiplier < 1 << 31).all() and (shift >= 0).all() and (shift <= 62).all()
    found = np.ldexp(multiplier.astype(float), -shift)
    large = ratio > 2.0 ** -31
    assert (np.abs(found - ratio)[large] <= ratio[large] * 2.0 ** -30).all()
    assert (np.abs(found - ratio) <= 2.0 ** -63 + ratio * 2.0 ** -30).all()


def test_streams_are_those_of_packing():
    """What `submit` sends is pack_a, pack_w and pack_c of the job that it starts."""
    core, golden = driver()
    rng = np.random.default_rng(SEED)
    a, w, c = rng.integers(0, 256, (6, 20)), rng.integers(0, 256, (5, 20)), rng.integers(0, 1000, (6, 5))
    job = Job("int8", 6, 20, 5, accumulate=True, per_channel=True)
    records = Records.of(5)
    core.submit(job, a, w, records=records, c=c)
    sent = {name: np.frombuffer(b"".join(beats), np.uint8).reshape(-1, 8) for name, beats in golden.beats.items()}
    assert (sent["a"] == pack_a(core.design, job, a)).all() and (sent["c"] == pack_c(core.design, job, c)).all()
    assert (sent["w"] == pack_w(core.design, job, w, records)).all()
    assert golden.writes[-1] == ("CTRL", 1)
