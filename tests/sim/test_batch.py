"""The batch simulator against NumPy."""

import numpy as np
import pytest
from samples import Accumulator, Adder, Counter

from bitkiln.hw.emit import Port
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel, build_many, from_ints, pack_lanes, to_ints


@pytest.fixture(scope="module")
def models():
    return dict(zip(("accumulator", "adder100", "adder33", "counter"),
                    build_many([Accumulator(), Adder(100), Adder(33), Counter()]), strict=True))


def stimulus(rows=5000):
    rng = np.random.default_rng(5)
    return rng.integers(-128, 128, rows), rng.integers(-128, 128, rows), rng.random(rows) < 0.7


def totals(a, b, en, width=20):
    exact = np.cumsum(a * b * en)
    return (exact + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))


def test_clocked(models):
    a, b, en = stimulus()
    out = models["accumulator"].run({"a": a, "b": b, "en": en})
    expected = totals(a, b, en)
    assert out["total"].dtype == np.int64 and (out["total"] == expected).all()
    assert out["negative"].dtype == np.uint8 and (out["negative"] == (expected < 0)).all()
    assert (out["sum_now"] == a + b).all(), "combinational outputs show the inputs of their own row"


def test_unsigned_codes_and_every_dtype(models):
    a, b, en = stimulus(500)
    expected = totals(a, b, en)
    for kind in (np.int8, np.int16, np.int32, np.int64):
        out = models["accumulator"].run({"a": a.astype(kind), "b": b.astype(np.uint8), "en": en.astype(kind)})
        assert (out["total"] == expected).all()
    out = models["accumulator"].run({"a": a[::-1][::-1], "b": np.stack([b, b], 1)[:, 0], "en": en}, ["total"])
    assert list(out) == ["total"] and (out["total"] == expected).all(), "strided arrays"


def test_every_resume_and_scalars(models):
    model = models["accumulator"]
    a, b, en = stimulus(1003)
    expected = totals(a, b, en)
    assert (model.run({"a": a, "b": b, "en": en}, every=10)["total"] == expected[9::10]).all()
    first = model.run({"a": a[:400], "b": b[:400], "en": en[:400]})["total"]
    second = model.run({"a": a[400:], "b": b[400:], "en": en[400:]}, resume=True)["total"]
    assert (np.concatenate([first, second]) == expected).all()
    assert (model.run({"a": a, "b": -3, "en": 1})["total"] == totals(a, -3, True)).all()
    assert len(model.run({"a": 1, "b": 1, "en": 1})["total"]) == 1
    assert len(model.run({"a": a[:0], "b": 1, "en": 1})["total"]) == 0


def test_reset_input(models):
    model = models["accumulator"]
    assert model.resets == ("rst",)
    rst = np.zeros(10, bool)
    rst[4] = True
    out = model.run({"a": np.full(10, 2), "b": 3, "en": 1, "rst": rst})["total"]
    assert out.tolist() == [6, 12, 18, 24, 0, 6, 12, 18, 24, 30]


def test_wide_and_combinational(models):
    rng = np.random.default_rng(1)
    for width, model in ((100, models["adder100"]), (33, models["adder33"])):
        x = [int.from_bytes(rng.bytes(16), "little") % (1 << width) for _ in range(300)] + [(1 << width) - 1, 0]
        y = [int.from_bytes(rng.bytes(16), "little") % (1 << width) for _ in range(300)] + [1, 0]
        assert not model.sequential and list(model.inputs) == ["i__x", "i__y"]
        given = [from_ints(v, width) if width > 64 else np.array(v, dtype=np.int64) for v in (x, y)]
        out = model.run({"i__x": given[0], "i__y": given[1]})
        assert to_ints(out["o__sum"], width + 1).tolist() == [p + q for p, q in zip(x, y, strict=True)]
        assert to_ints(out["larger"], width).tolist() == [max(p, q) for p, q in zip(x, y, strict=True)]
    held = models["adder100"].run({"i__x": from_ints([5, 7], 100), "i__y": 1 << 99})
    assert to_ints(held["o__sum"], 101).tolist() == [(1 << 99) + 5, (1 << 99) + 7]


def test_ints_round_trip():
    values = [0, 1, -1, (1 << 89) - 1, -(1 << 89)]
    assert to_ints(from_ints(values, 90), 90, signed=True).tolist() == values
    assert to_ints(from_ints(values, 90), 90).tolist() == [v % (1 << 90) for v in values]


def test_pack_lanes():
    codes = np.array([[1, 2, 3, 15], [0, 0, 0, 8]])
    assert pack_lanes(codes, 4).tolist() == [0xF321, 0x8000]
    wide = np.array([[i % 64 for i in range(20)]])
    assert to_ints(pack_lanes(wide, 6), 120).tolist() == [sum((i % 64) << (6 * i) for i in range(20))]


def test_from_verilog():
    text = ("module netlist(input clk, input [3:0] x, output reg [3:0] y);\n  initial y = 4'd3;\n"
            "  always @(posedge clk) y <= x ^ y;\nendmodule\n")
    ports = [Port("clk", "input", 1), Port("x", "input", 4), Port("y", "output", 4)]
    model = BatchModel.from_verilog(text, "netlist", [*ports, Port("nothing", "input", 0)])  # Verilog has no such port
    assert model.run({"x": np.array([1, 2, 4, 8])})["y"].tolist() == [2, 0, 4, 12]
    with pytest.raises(BitkilnError, match="no such port at Verilog module: got 'z'"):
        BatchModel.from_verilog(text, "netlist", [*ports, Port("z", "input", 1)])
    with pytest.raises(BitkilnError, match="Verilator failed at netlist") as caught:
        BatchModel.from_verilog(text.replace("x ^ y", "x ^ nothing"), "netlist", ports)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("inputs", "message"), [
    ({"a": 1, "b": 1}, "error: missing input at accumulator_8_20.en: expected an array or a number for each input"),
    ({"a": 1, "b": 1, "en": 1, "c": 1},
     "error: unknown input at accumulator_8_20: got 'c', expected rst, a, b, en\nhelp: choices: rst, a, b, en"),
    ({"a": np.array([256]), "b": 1, "en": 1},
     "error: value outside the port at accumulator_8_20.a: got 256, expected 8 bits"),
    ({"a": np.array([-129]), "b": 1, "en": 1},
     "error: value outside the port at accumulator_8_20.a: got -129, expected 8 bits"),
    ({"a": 1, "b": 1, "en": 2}, "error: value outside the port at accumulator_8_20.en: got 2, expected 1 bits"),
    ({"a": np.array([1, 2]), "b": np.array([1]), "en": 1},
     "error: arrays of different length at accumulator_8_20: got 'a 2, b 1'"),
    ({"a": np.array([1.0]), "b": 1, "en": 1},
     "error: wrong array at accumulator_8_20.a: got 'float64 (1,)', expected an integer array with one value per row"),
])
def test_bad_inputs(models, inputs, message):
    with pytest.raises(BitkilnError) as caught:
        models["accumulator"].run(inputs)
    assert str(caught.value) == message


def test_models_do_not_share_state(models):
    one, two = BatchModel(Counter()), models["counter"]
    assert one.run({"step": 1})["value"].tolist() == [1]
    two.run({"step": np.full(5, 2)})
    assert one.run({"step": 1}, resume=True)["value"].tolist() == [2]
