"""The stream simulator against exact Python models of small components."""

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.emit import to_verilog
from bitkiln.models.errors import BitkilnError
from bitkiln.sim import verilate
from bitkiln.sim.batch import from_ints, to_ints
from bitkiln.sim.streams import StreamModel, build_streams

STALLS = (0.0, 0.1, 0.5, 0.9)


class Pipe(wiring.Component):
    """Registers in a row; ready runs through them combinationally."""

    def __init__(self, shape, stages):
        self.stages = stages
        self.module_name = f"pipe_{getattr(shape, 'width', shape)}_{stages}"
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        full = [Signal(name=f"full{n}") for n in range(self.stages)]
        item = [Signal.like(self.i.payload, name=f"item{n}") for n in range(self.stages)]
        room = self.o.ready
        for n in reversed(range(self.stages)):
            here = Signal(name=f"room{n}")
            m.d.comb += here.eq(~full[n] | room)
            with m.If(here):
                m.d.sync += [full[n].eq(full[n - 1] if n else self.i.valid), item[n].eq(item[n - 1] if n else
                                                                                       self.i.payload)]
            room = here
        m.d.comb += [self.i.ready.eq(room), self.o.valid.eq(full[-1]), self.o.payload.eq(item[-1])]
        return m


class Splitter(wiring.Component):
    """Four bytes out, least significant first, for each word in; takes a word when the last byte has gone."""

    i: In(stream.Signature(32))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        word, left = Signal(32), Signal(range(5))
        m.d.comb += [self.i.ready.eq(left == 0), self.o.valid.eq(left != 0), self.o.payload.eq(word[:8])]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(self.i.payload), left.eq(4)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [word.eq(word >> 8), left.eq(left - 1)]
        return m


class Adder(wiring.Component):
    """``a + b + offset`` (combinational), with the number of sums so far and the last one."""

    a: In(stream.Signature(signed(8)))
    b: In(stream.Signature(signed(8)))
    offset: In(signed(6))
    o: Out(stream.Signature(signed(10)))
    count: Out(8)
    last: Out(signed(70))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.o.valid.eq(self.a.valid & self.b.valid), self.a.ready.eq(self.b.valid & self.o.ready),
                     self.b.ready.eq(self.a.valid & self.o.ready),
                     self.o.payload.eq(self.a.payload + self.b.payload + self.offset)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.count.eq(self.count + 1), self.last.eq(self.o.payload)]
        return m


GOOD, WITHDRAWS, CHANGES, VALID_PATH, PAYLOAD_PATH, LOSES, STOPS, REPEATS, PEEKS, SLOW = range(10)


class Stage(wiring.Component):
    """One register that breaks a rule: which one is an input. Two counters of transfers that no reset clears."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    mode: In(4)
    took: Out(8)
    gave: Out(8)

    def elaborate(self, platform):
        m = Module()
        full, item, refused, taken, repeated = Signal(), Signal(8), Signal(), Signal(8), Signal()
        mode, i, o = self.mode, self.i, self.o
        again, leaves = Signal(), Signal()
        took, gave = Signal(8, reset_less=True), Signal(8, reset_less=True)
        odd = Signal(reset_less=True)
        m.d.sync += odd.eq(~odd)
        m.d.comb += [self.took.eq(took), self.gave.eq(gave)]
        m.d.sync += [took.eq(took + (i.valid & i.ready)), gave.eq(gave + (o.valid & o.ready))]
        m.d.comb += [
            o.valid.eq(full & ~((mode == WITHDRAWS) & refused) & ~((mode == VALID_PATH) & ~o.ready)),
            o.payload.eq(item + ((mode == CHANGES) & refused) + ((mode == PAYLOAD_PATH) & o.ready)),
            i.ready.eq(Mux(mode == LOSES, 1, (~full | leaves) & ~((mode == STOPS) & (taken == 5))
                           & ~((mode == SLOW) & ~odd))),
            again.eq((mode == REPEATS) & (item == 7) & ~repeated),
            leaves.eq(o.valid & o.ready & ~again)]
        m.d.sync += refused.eq(o.valid & ~o.ready)
        with m.If(o.valid & o.ready):
            m.d.sync += repeated.eq(again)
        with m.If(leaves):
            m.d.sync += full.eq(0)
        with m.If(i.valid & i.ready & (~full | leaves)):
            m.d.sync += [full.eq(1), item.eq(i.payload), taken.eq(taken + 1)]
        with m.If((mode == PEEKS) & ~i.valid & ~full):
            m.d.sync += item.eq(i.payload)
            with m.If(i.payload == 200):
                m.d.sync += full.eq(1)
        return m


class Through(wiring.Component):
    """No clock; two fields, a nested name, and a stream without payload."""

    def __init__(self):
        layout = data.StructLayout({"low": 3, "high": signed(5)})
        super().__init__({"bus": Out(wiring.Signature({"i": In(stream.Signature(layout)),
                                                       "o": Out(stream.Signature(8))})),
                          "go": In(stream.Signature(0)), "went": Out(stream.Signature(0))})

    def elaborate(self, platform):
        m = Module()
        i, o = self.bus.i, self.bus.o
        m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready),
                     o.payload.eq(i.payload.high.as_unsigned() * 8 + i.payload.low),
                     self.went.valid.eq(self.go.valid), self.go.ready.eq(self.went.ready)]
        return m


@pytest.fixture(scope="module")
def models():
    names = ("pipe1", "pipe3", "pipe65", "pipe200", "splitter", "adder", "stage", "through")
    made = build_streams([Pipe(16, 1), Pipe(16, 3), Pipe(65, 2), Pipe(200, 1), Splitter(), Adder(), Stage(), Through()])
    return dict(zip(names, made, strict=True))


def words(count, seed=0, bits=16):
    return np.random.default_rng(seed).integers(0, 1 << bits, count, dtype=np.uint64)


def test_ports(models):
    adder = models["adder"]
    assert list(adder.inputs) == ["a", "b"] and list(adder.outputs) == ["o"] and repr(adder) == "StreamModel(adder)"
    assert list(adder.plain_inputs) == ["offset"] and list(adder.plain_outputs) == ["count", "last"]
    assert adder.clock == "clk" and adder.reset == "rst"
    through = models["through"]
    assert through.clock is None and through.reset is None and not through.plain_inputs and not through.plain_outputs
    assert {name: port.width for name, port in (through.inputs | through.outputs).items()} == {
        "bus__i": 8, "go": 0, "bus__o": 8, "went": 0}


@pytest.mark.parametrize(("name", "stages"), [("pipe1", 1), ("pipe3", 3)])
def test_back_to_back(models, name, stages):
    given = words(1000)
    run = models[name].run({"i": given}, {"o": 1000}, drain=20).check()
    assert run.outputs["o"].dtype == np.uint64 and (run.outputs["o"] == given).all()
    assert run.cycles["i"].tolist() == list(range(1000))
    assert run.cycles["o"].tolist() == list(range(stages, 1000 + stages))
    assert run.cycles["i"].dtype == np.uint64 and run.total == 1000 + stages + 20


def pipe_cycles(arrive, leave, stages):
    """When a row of registers lets each item in and out, from the cycles in which the host offers (the gap before
    each item, counted from the cycle after the last one was taken) and in which it is ready."""
    at, taken, given, inside, waiting = 0, [], [], [None] * stages, None
    gap = arrive[0]
    while len(given) < len(arrive):
        if waiting is None and len(taken) < len(arrive):
            if gap == 0:
                waiting = len(taken)
            gap -= 1
        room = leave[at]
        if inside[-1] is not None and room:
            given.append(at)
        for n in reversed(range(stages)):
            room = inside[n] is None or room
            if room:
                inside[n] = inside[n - 1] if n else waiting
        if room and waiting is not None:
            taken.append(at)
            waiting = None
            gap = arrive[len(taken)] if len(taken) < len(arrive) else 0
        at += 1
    return taken, given


@pytest.mark.parametrize("stages", [1, 3])
def test_stalls_are_those_of_an_exact_model(models, stages):
    """One run learns the host's gaps (nothing refuses) and one its readiness (something always waits)."""
    model, given = models[f"pipe{stages}"], words(400)
    gaps = model.run({"i": given}, {"o": 400}, stalls={"i": 0.4}, seed=3).check().cycles["i"].astype(int)
    ready = model.run({"i": words(2000)}, {"o": 2000}, stalls={"o": 0.6}, seed=3).check().cycles["o"].astype(int)
    # Until the first item has come through, readiness is unseen, and it does not matter.
    leave = np.isin(np.arange(ready[-1] + 1), ready)
    arrive = np.diff(gaps, prepend=-1) - 1
    run = model.run({"i": given}, {"o": 400}, stalls={"i": 0.4, "o": 0.6}, seed=3).check()
    taken, seen = pipe_cycles(arrive.tolist(), leave.tolist(), stages)
    assert (run.cycles["i"].tolist(), run.cycles["o"].tolist()) == (taken, seen)
    assert 0.3 < 1 - 400 / (gaps[-1] + 1) < 0.5 and 0.55 < 1 - 2000 / (ready[-1] + 1) < 0.65


@pytest.mark.parametrize("given_stall", STALLS)
@pytest.mark.parametrize("taken_stall", STALLS)
def test_contents_under_stalls(models, given_stall, taken_stall):
    for name, bits in (("pipe1", 16), ("pipe3", 16), ("splitter", 32)):
        given = words(500, 1, bits)
        expected = given if name != "splitter" else given.astype("<u4").view(np.uint8)
        stalls = {"i": given_stall, "o": taken_stall}
        run = models[name].run({"i": given}, {"o": len(expected)}, stalls=stalls, seed=7).check()
        assert (run.outputs["o"] == expected).all() and len(run.outputs["o"]) == len(expected)
        quiet = models[name].run({"i": given}, stalls=stalls, seed=7).check()
        assert (quiet.outputs["o"] == expected).all() and len(quiet.outputs["o"]) == len(expected)
        assert (quiet.cycles["o"] == run.cycles["o"]).all()


def test_several_outputs_for_an_input(models):
    run = models["splitter"].run({"i": np.array([0x04030201, 0x08070605])}, {"o": 8}, drain=0).check()
    assert run.outputs["o"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run.cycles["i"].tolist() == [0, 5] and run.cycles["o"].tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert run.total == 10
    quiet = models["splitter"].run({"i": [5]}, drain=1).check()
    assert quiet.outputs["o"].tolist() == [5, 0, 0, 0] and quiet.total == 6, "one cycle after the last transfer"


def test_surplus(models):
    run = models["splitter"].run({"i": [7]}, {"o": 3}, stalls={"o": 0.9}, drain=1)
    assert run.outputs["o"].tolist() == [7, 0, 0, 0] and run.surplus == {"o": 1}
    with pytest.raises(BitkilnError) as caught:
        run.check()
    assert str(caught.value) == "error: surplus outputs at splitter: got 'o 1', expected none"
    assert caught.value.exit_code == 1
    for stalls in STALLS:
        run = models["stage"].run({"i": np.arange(12)}, {"o": 12}, held={"mode": REPEATS}, stalls=stalls)
        assert run.outputs["o"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11] and run.surplus == {"o": 1}


def test_adder_with_plain_ports(models):
    rng = np.random.default_rng(4)
    a, b = rng.integers(-128, 128, (2, 200))
    for stalls in ({}, {"a": 0.7, "b": 0.2, "o": 0.4}):
        run = models["adder"].run({"a": a, "b": b}, {"o": 200}, held={"offset": -9}, stalls=stalls, seed=2,
                                 sample={"o": ["count", "last"], "a": ["count"]}).check()
        sums = a + b - 9
        assert run.outputs["o"].dtype == np.int64 and (run.outputs["o"] == sums).all()
        assert (run.cycles["a"] == run.cycles["o"]).all() and (run.cycles["b"] == run.cycles["o"]).all()
        assert run.ports == {"count": 200, "last": sums[-1]}
        assert run.samples["o"]["count"].tolist() == list(range(200)) == run.samples["a"]["count"].tolist()
        assert to_ints(run.samples["o"]["last"], 70, signed=True).tolist() == [0, *sums[:-1]]
    assert not run.samples["o"].keys() - {"count", "last"}
    changed = models["adder"].run({"a": a[:5], "b": b[:5]}, {"o": 5}, held={"offset": 4}, resume=True).check()
    assert (changed.outputs["o"] == (a + b + 4)[:5]).all() and changed.ports["count"] == 205
    kept = models["adder"].run({"a": a[:5], "b": b[:5]}, {"o": 5}, resume=True).check()
    assert (kept.outputs["o"] == changed.outputs["o"]).all() and kept.ports["count"] == 210


@pytest.mark.parametrize(("name", "width", "stages"), [("pipe65", 65, 2), ("pipe200", 200, 1)])
def test_wide(models, name, width, stages):
    rng = np.random.default_rng(width)
    values = [int.from_bytes(rng.bytes(25), "little") % (1 << width) for _ in range(300)] + [0, (1 << width) - 1]
    for stalls in (0.0, 0.5):
        run = models[name].run({"i": from_ints(values, width)}, {"o": 302}, stalls=stalls).check()
        assert run.outputs["o"].dtype == np.uint32 and run.outputs["o"].shape == (302, (width + 31) // 32)
        assert to_ints(run.outputs["o"], width).tolist() == values
        if not stalls:
            assert run.cycles["o"].tolist() == list(range(stages, 302 + stages))


def test_without_clock_fields_and_payload(models):
    codes = np.arange(256)
    run = models["through"].run({"bus__i": codes, "go": 9}, {"bus__o": 256, "went": 9}, stalls=0.3, seed=1).check()
    assert (run.outputs["bus__o"] == codes).all(), "the first field of a layout is in the least significant bits"
    assert (run.cycles["bus__i"] == run.cycles["bus__o"]).all()
    assert len(run.cycles["go"]) == 9 and run.outputs["went"].tolist() == [0] * 9


@pytest.mark.parametrize(("mode", "what", "stalled"), [
    (WITHDRAWS, "o withdrew valid before it was taken", True),
    (CHANGES, "o changed its payload before it was taken", True),
    (VALID_PATH, "o.valid depends on o.ready in the same cycle", False),
    (PAYLOAD_PATH, "o.payload depends on o.ready in the same cycle", False)])
def test_violations(models, mode, what, stalled):
    model = models["stage"]
    run = model.run({"i": np.arange(50)}, stalls={"o": 0.5} if stalled else 0.0, held={"mode": mode}, seed=1)
    cycle, _, text = run.violation.partition(": ")
    assert text == what and run.violations > 0
    if stalled:
        # In the cycle after the first refusal, which is the first one after cycle 0 without a transfer.
        assert cycle == f"cycle {next(n for n in range(1, run.total) if n not in run.cycles['o']) + 1}"
    else:
        assert cycle == "cycle 1"
    with pytest.raises(BitkilnError) as caught:
        run.check()
    assert str(caught.value).startswith(f"error: broken protocol at stage: got '{run.violation}', expected what is "
                                        f"offered stays until it is taken\nhelp: {run.violations} in {run.total}")
    assert caught.value.exit_code == 1
    # What is not stalled cannot be withdrawn, and without a violation there is no report.
    good = model.run({"i": np.arange(50)}, {"o": 50}, stalls=0.5, held={"mode": GOOD}, seed=1).check()
    assert good.violation is None and good.violations == 0 and good.outputs["o"].tolist() == list(range(50))


def test_lost_item(models):
    given = np.arange(100)
    calm = models["stage"].run({"i": given}, {"o": 100}, held={"mode": LOSES}).check()
    assert (calm.outputs["o"] == given).all(), "needs back-pressure to be seen"
    run = models["stage"].run({"i": given}, held={"mode": LOSES}, stalls={"o": 0.3})
    assert len(run.cycles["i"]) == 100 and 50 < len(run.outputs["o"]) < 100
    assert np.isin(run.outputs["o"], given).all() and (np.diff(run.outputs["o"].astype(int)) > 0).all()
    with pytest.raises(BitkilnError) as caught:
        models["stage"].run({"i": given}, {"o": 100}, held={"mode": LOSES}, stalls={"o": 0.3}, timeout=50)
    count = len(run.outputs["o"])
    assert str(caught.value).startswith(f"error: deadlock at stage: got 'i 100, o {count} after ")
    assert f"\nhelp: waiting: output o: {count} of 100 seen (valid low, ready " in str(caught.value)


def test_payload_is_noise_without_valid(models):
    """A component that looks at the payload while valid is low is found out."""
    given = np.zeros(500, int)
    run = models["stage"].run({"i": given}, stalls={"i": 0.7}, held={"mode": PEEKS}, seed=5)
    assert 200 in run.outputs["o"]
    assert not models["stage"].run({"i": given}, stalls={"i": 0.7}, held={"mode": GOOD}, seed=5).outputs["o"].any()


def test_deadlock(models):
    model, given = models["stage"], np.arange(20)
    arguments = {"held": {"mode": STOPS}, "timeout": 100}
    with pytest.raises(BitkilnError) as caught:
        model.run({"i": given}, {"o": 20}, **arguments)
    assert str(caught.value) == (
        "error: deadlock at stage: got 'i 5, o 5 after 106 cycles', expected a transfer within 100 cycles\n"
        "help: waiting: input i: 5 of 20 taken (valid high, ready low); output o: 5 of 20 seen (valid low, ready high)")
    assert caught.value.exit_code == 1
    run = model.run({"i": given}, {"o": 20}, partial=True, **arguments)
    assert run.deadlock in str(caught.value) and run.outputs["o"].tolist() == [0, 1, 2, 3, 4] and run.total == 106
    assert model.run({"i": given[:5]}, {"o": 5}, **arguments).deadlock is None


def test_blocked_output_shows_the_capacity(models):
    for name, stages in (("pipe1", 1), ("pipe3", 3)):
        blocked = models[name].run({"i": words(10)}, stalls={"o": 1}, timeout=30, partial=True).check()
        assert blocked.cycles["i"].tolist() == list(range(stages)) and not len(blocked.outputs["o"])
        assert blocked.deadlock == (f"waiting: input i: {stages} of 10 taken (valid high, ready low); "
                                    "output o: 0 seen, one waits (valid high, ready low)")
        # The item that was offered stays offered when a resumed run brings it again, whatever the stall.
        more = words(10, 5)
        rest = models[name].run({"i": more[stages:]}, {"o": 10}, stalls={"i": 0.9}, resume=True).check()
        assert rest.outputs["o"].tolist() == [*words(10)[:stages], *more[stages:]] and rest.cycles["i"][0] == 0


def test_limit(models):
    with pytest.raises(BitkilnError) as caught:
        models["pipe1"].run({"i": words(100)}, {"o": 100}, limit=40)
    assert str(caught.value) == (
        "error: too long a run at pipe_16_1: got 'i 40, o 39 after 40 cycles', expected an end within 40 cycles "
        "(limit=)\nhelp: waiting: input i: 40 of 100 taken (valid high, ready high); output o: 39 of 100 seen "
        "(valid high, ready high)")


def test_seed(models):
    def cycles(seed, stalls=0.5, model=models["pipe3"]):
        run = model.run({"i": words(200)}, {"o": 200}, stalls=stalls, seed=seed).check()
        return run.cycles["i"].tolist(), run.cycles["o"].tolist()

    assert cycles(1) == cycles(1) == cycles(1, model=StreamModel(Pipe(16, 3)))
    assert len({str(cycles(seed)) for seed in range(-2, 8)}) == 10
    assert cycles(1, 0.0) == cycles(2, 0.0)
    assert cycles(1, {"i": 0.5})[0] == cycles(1, {"i": 0.5, "o": 0.0})[0] != cycles(1)[0]


def test_resume(models):
    model, given = models["splitter"], words(30, bits=32)
    whole = model.run({"i": given}, {"o": 120}, drain=0).check()
    first = model.run({"i": given[:10]}, {"o": 38}, drain=0).check()
    second = model.run({"i": given[10:]}, {"o": 82}, drain=0, resume=True).check()
    assert (np.concatenate([first.outputs["o"], second.outputs["o"]]) == whole.outputs["o"]).all()
    for name in ("i", "o"):
        joined = np.concatenate([first.cycles[name], second.cycles[name] + np.uint64(first.total)])
        assert (joined == whole.cycles[name]).all()
    afresh = model.run({"i": given[10:]}, {"o": 80}, drain=0).check()
    assert (afresh.outputs["o"] == whole.outputs["o"][40:]).all(), "power-up state without resume"
    model.run({"i": given[:1]}, {"o": 0}, drain=0).check()
    assert model.run({}, {"o": 4}, resume=True).check().outputs["o"].tolist() == whole.outputs["o"][:4].tolist()


def test_resume_watches_on(models):
    """An output that changes between two runs, while it waits, is a violation too."""
    model = models["stage"]
    model.run({"i": [3]}, stalls={"o": 1}, held={"mode": GOOD}).check()
    assert model.run({}, held={"mode": CHANGES}, resume=True).violation == (
        "cycle 0: o changed its payload before it was taken")


def test_reset(models):
    given = np.arange(50)
    run = models["pipe3"].run({"i": given}, reset_at=[20, 10, 10]).check()
    # Three items are inside at each reset; the streams stand still in its cycle and the next item is taken after it.
    assert run.cycles["i"].tolist() == [n for n in range(52) if n not in (10, 20)]
    assert run.outputs["o"].tolist() == [n for n in range(50) if n not in (7, 8, 9, 16, 17, 18)]
    assert run.cycles["o"].tolist() == [*range(3, 10), *range(14, 20), *range(24, 55)]
    late = models["pipe3"].run({"i": given}, {"o": 50}, reset_at=[300], drain=0, timeout=20).check()
    assert late.outputs["o"].tolist() == given.tolist() and late.total == 301, "waits for the reset"
    stopped = models["stage"].run({"i": given[:10]}, {"o": 10}, held={"mode": STOPS}, reset_at=[40], timeout=20).check()
    assert stopped.outputs["o"].tolist() == list(range(10)) and (stopped.cycles["i"][5:] > 40).all()


def test_nothing_moves_in_a_reset(models):
    for stalls, mode in ((0.0, GOOD), (0.4, GOOD), (0.0, SLOW), (0.4, SLOW)):
        run = models["stage"].run({"i": np.arange(100)}, held={"mode": mode}, stalls=stalls, reset_at=range(3, 90, 5))
        assert run.check().ports == {"took": 100, "gave": len(run.outputs["o"])} and run.ports["gave"] < 100


def test_reset_under_stalls(models):
    given = words(2000)
    marks = np.arange(50, 2000, 97)
    run = models["pipe3"].run({"i": given}, stalls=0.3, seed=9, reset_at=marks).check()
    assert (run.cycles["i"][:, None] != marks).all() and (run.cycles["o"][:, None] != marks).all()
    assert len(run.cycles["i"]) == 2000
    lost = 0
    edges = [0, *marks, run.total]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        sent = given[(run.cycles["i"] >= start) & (run.cycles["i"] < end)]
        came = run.outputs["o"][(run.cycles["o"] >= start) & (run.cycles["o"] < end)]
        assert (came == sent[:len(came)]).all() and 0 <= len(sent) - len(came) <= 3
        lost += len(sent) - len(came)
    assert lost > len(marks) and len(came) == len(sent), "nothing is lost after the last reset"


def test_idle_and_empty(models):
    run = models["pipe1"].run({}, {}, drain=100).check()
    assert run.total == 100 and not len(run.outputs["o"]) and run.outputs["o"].dtype == np.uint64
    assert models["pipe200"].run({"i": []}, {"o": 0}, drain=0).outputs["o"].shape == (0, 7)


def test_cached(models, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("built again")

    monkeypatch.setattr(verilate, "verilate", refuse)
    monkeypatch.setattr(verilate, "compile_sources", refuse)
    again = StreamModel(Splitter())
    assert again.run({"i": [0x0A0B]}, {"o": 4}).outputs["o"].tolist() == [0x0B, 0x0A, 0, 0]
    models["splitter"].run({"i": [1]}, {"o": 1}, drain=0)
    assert again.run({}, {"o": 0}, resume=True).outputs["o"].tolist() == [], "models do not share state"
    with pytest.raises(AssertionError, match="built again"):
        StreamModel(Pipe(17, 1))


def test_from_verilog():
    model = StreamModel(Splitter())
    ports = [*model.inputs.values(), *model.outputs.values()]
    ports += [type(ports[0])(name, "input", 1) for name in ("clk", "rst", "i__valid", "o__ready")]
    ports += [type(ports[0])(name, "output", 1) for name in ("i__ready", "o__valid")]
    text = to_verilog(Splitter())
    mutant = text.replace("3'h4", "3'h3")
    wrong = StreamModel.from_verilog(mutant, "splitter", ports)
    assert mutant != text and (wrong.clock, wrong.reset) == ("clk", "rst")
    assert wrong.run({"i": [0x0D0C0B0A]}).check().outputs["o"].tolist() == [0x0A, 0x0B, 0x0C]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"inputs": {"x": [1]}}, "error: unknown input stream at adder: got 'x', expected a, b\nhelp: choices: a, b"),
    ({"expect": {"oo": 1}}, "error: unknown output stream at adder: got 'oo', expected o\nhelp: did you mean o?"),
    ({"stalls": {"aa": 0.5}}, "error: unknown stream at adder: got 'aa', expected a, b, o\nhelp: did you mean a?"),
    ({"held": {"ofset": 1}}, "error: unknown plain input at adder: got 'ofset', expected offset\n"
                             "help: did you mean offset?"),
    ({"sample": {"o": ["counts"]}}, "error: unknown plain output at adder: got 'counts', expected count, last\n"
                                    "help: did you mean count?"),
    ({"held": {}}, "error: missing input at adder.offset: expected a number for each plain input, in held"),
    ({"held": {"offset": 64}}, "error: value outside the port at adder.offset: got 64, expected 6 bits"),
    ({"inputs": {"a": [256]}}, "error: value outside the port at adder.a: got 256, expected 8 bits"),
    ({"inputs": {"a": 5}}, "error: wrong array at adder.a: got 5, expected one value per item"),
    ({"inputs": {"a": [0.5]}}, "error: wrong array at adder.a: got 'float64 (1,)', expected an integer array with one "
                               "value per row"),
    ({"stalls": {"a": 1.5}}, "error: out of range at stalls.a: got 1.5, expected 0 to 1"),
    ({"expect": {"o": -1}}, "error: out of range at expect.o: got -1, expected a whole number, 0 or more"),
    ({"timeout": 0}, "error: out of range at timeout: got 0, expected a whole number, 1 or more"),
    ({"reset_at": [-3]}, "error: out of range at reset_at: got -3, expected a whole number, 0 or more"),
])
def test_bad_arguments(models, arguments, message):
    with pytest.raises(BitkilnError) as caught:
        models["adder"].run(**{"held": {"offset": 0}, **arguments})
    assert str(caught.value) == message and caught.value.exit_code == 2


def test_bad_components(models):
    with pytest.raises(BitkilnError) as caught:
        models["through"].run(reset_at=[1])
    assert str(caught.value) == "error: no reset at through.reset_at: expected a component with a reset port"

    class Plain(wiring.Component):
        x: In(3)
        y: Out(3)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.y.eq(self.x)
            return m

    with pytest.raises(BitkilnError) as caught:
        StreamModel(Plain())
    assert str(caught.value) == ("error: no streams at plain: got 'x, y', expected ports named <stream>__valid, ready "
                                 "and payload")

    class Nested(wiring.Component):
        i: In(wiring.Signature({"payload": Out(wiring.Signature({"p": Out(1), "q": Out(1)})), "valid": Out(1),
                                "ready": In(1)}))
        y: Out(1)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += [self.y.eq(self.i.payload.p ^ self.i.payload.q ^ self.i.valid), self.i.ready.eq(1)]
            return m

    with pytest.raises(BitkilnError) as caught:
        StreamModel(Nested())
    assert str(caught.value) == ("error: a payload of several ports at nested.i: got 'i__payload__p, i__payload__q', "
                                 "expected one packed port\nhelp: use a data.StructLayout for the payload")
