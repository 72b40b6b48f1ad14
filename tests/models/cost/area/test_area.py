# amaranth: UnusedElaboratable=no
"""Area models: what they count is what the generators build; parts add up; a larger unit never costs less."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from bitkiln.flow.samples import samples
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.formats.decode import decoder_for
from bitkiln.hw.mac.dot import DotUnit, cuts_of, fused_fp32
from bitkiln.hw.mac.product import LaneProduct
from bitkiln.models.cost.area import area_features
from bitkiln.models.cost.area.area import (
    FPGA_WEIGHTS,
    TECH,
    Technology,
    area_estimate,
    for_metric,
    metrics_of,
    technology,
    technology_names,
)
from bitkiln.models.cost.area.area_blocks import design_blocks
from bitkiln.models.cost.area.area_features import CUTS, operand
from bitkiln.models.cost.area.fit import LinearModel
from bitkiln.models.design import Accumulator, ArrayDesign, DotDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.morphable import WORD_BITS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import format_names, get_format

FORMATS = [get_format(name) for name in format_names() if get_format(name).bits <= 16]
PAIRS = ("int2", "int4", "int8", "int16", "uint8", "ternary", "fp4", "e3m0", "fp6_e2m3", "fp8_e4m3", "fp8_e5m2", "e2m5",
         "posit4_1", "posit6_0", "posit8_0", "posit8_1", "posit16_1", "int8xfp4", "int8xternary", "fp8_e4m3xint4",
         "posit8_0xfp4", "int16xint8", "fp6_e3m2xfp4")
PE = MorphableDesign(("int8", "fp4"), Accumulator("exact", depth=1024))


def counts_of(design: object, metric: str, tech: str = "ecp5") -> dict[str, float]:
    found: dict[str, float] = {}
    for block in for_metric(design_blocks(design), metric, metrics_of(tech)):
        for name, amount in block.counts.items():
            found[name] = found.get(name, 0.0) + amount * block.copies
    return found


def made_up(designs: list[object], name: str = "ecp5") -> Technology:
    """Costs drawn from a fixed seed for everything in ``designs``."""
    rng, models = np.random.default_rng(1), {}
    for metric in metrics_of(name):
        names = sorted({count for design in designs for count in counts_of(design, metric, name)})
        models[metric] = LinearModel({count: float(rng.uniform(0.2, 3)) for count in names}, error_known=0.1,
                                     error_new=0.3)
    weights = FPGA_WEIGHTS.get(name, {"logic": 1, "registers": 1})
    return Technology(name, "none", "cells" if name in FPGA_WEIGHTS else "um2", weights, models, {},
                      {"table": "made up"})


def drawn(count: int, seed: int) -> list[DotDesign]:
    """Random legal dot units with exact sums."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        design = DotDesign.from_pe(str(rng.choice(PAIRS)), lanes=int(rng.integers(1, 5)),
                                   pipeline=int(rng.integers(0, 7)), accumulator=Accumulator("exact",
                                   depth=int(rng.choice((64, 1000, 4096)))))
        if design not in found:
            found.append(design)
    return found


# What the generators say ---------------------------------------------------------------------------------

@pytest.mark.parametrize("fmt", FORMATS, ids=[fmt.name for fmt in FORMATS])
def test_operands_are_the_decoders(fmt):
    decoder, found = decoder_for(fmt), operand(fmt)
    if decoder is None:
        assert (found.kind, found.significand, found.signed) == ("none", fmt.bits, fmt.signed)
        assert (found.shift_bits, found.max_shift, found.min_shift, found.sign) == (0, 0, 0, False)
        return
    assert found.kind == {"MinifloatDecoder": "minifloat", "LinearPositDecoder": "linear", "PositDecoder": "posit",
                          "TableDecoder": "table"}[type(decoder).__name__]
    shape = decoder.significand_shape
    assert (found.bits, found.significand, found.signed) == (len(decoder.code), shape.width, shape.signed)
    assert found.sign == decoder.has_sign
    assert found.shift_bits == (len(decoder.shift) if decoder.has_shift else 0)
    assert (found.min_shift, found.max_shift) == (decoder.min_shift, decoder.max_shift)
    assert found.subnormal == decoder.has_subnormal
    assert found.specials == decoder.has_nan + decoder.has_inf + decoder.has_illegal


def test_every_kind_of_decoder_is_among_the_formats():
    assert {operand(fmt).kind for fmt in FORMATS} == {"none", "minifloat", "linear", "posit", "table"}
    assert len(FORMATS) > 100


def test_registers_stand_where_the_generator_puts_them():
    for pipeline, cuts in CUTS.items():
        assert cuts == cuts_of(DotDesign.from_pe("int8", pipeline=pipeline))


def test_widths_of_lanes():
    rng, checked = np.random.default_rng(4), 0
    while checked < 150:
        a, w = (FORMATS[int(rng.integers(len(FORMATS)))] for _ in range(2))
        try:
            design = DotDesign(a, w, lanes=1, pipeline=int(rng.integers(0, 5)))
        except BitkilnError:
            continue
        checked += 1
        cuts = cuts_of(design)
        lane, built = area_features._lane(design, cuts), LaneProduct(a, w, cuts)
        assert lane.value == built.value_shape.width, design.pe_name
        assert lane.product == sum(built_significands(a, w)), design.pe_name
        assert (lane.signed, lane.sign, lane.shifted) == (built.signed_product, built.has_sign, built.shifted)
        assert lane.shift == built.max_shift.bit_length()
        assert lane.flat != built.keep
        assert area_features.fused_fp32(design) == fused_fp32(design)


def built_significands(*formats) -> list[int]:
    decoders = [decoder_for(fmt) for fmt in formats]
    return [fmt.bits if decoder is None else decoder.significand_shape.width
            for fmt, decoder in zip(formats, decoders, strict=True)]


def flip_flops_equal(designs: list[DotDesign]) -> None:
    from bitkiln.flow.synth import synthesise

    for design in designs:
        found = synthesise(to_verilog(DotUnit(design), design.name), design.name, "ecp5")
        measured = next(metric.value for metric in found.metrics if metric.name == "ff")
        counted = sum(counts_of(design, "ff").values())
        if design.pipeline <= 4 and "ternary" not in design.pe_name:
            assert counted == measured, design.name
        else:
            # Not counted: flags and carries in registers behind the tree, and the enable that flags gate; one bit of a
            # ternary product is constant.
            assert abs(counted - measured) <= design.lanes + len(design.flags) + 2, design.name


def test_flip_flops(tmp_path, monkeypatch):
    monkeypatch.setenv("BITKILN_STORE", str(tmp_path / "store.sqlite"))
    owed = DotDesign.from_pe("int4xint2", lanes=2, pipeline=3, accumulator=Accumulator("fp32"))     # a carry each
    flip_flops_equal([*drawn(1, 6), owed])


@pytest.mark.slow
def test_flip_flops_of_many(tmp_path, monkeypatch):
    monkeypatch.setenv("BITKILN_STORE", str(tmp_path / "store.sqlite"))
    flip_flops_equal(drawn(20, 7))


def test_shift_registers_of_units():
    """The counts are Yosys' own, on all units of the table; what stays are flip-flops."""
    by_digest, shifting = {sample.digest: sample for sample in samples("pe")}, 0
    with (TECH / "xilinx.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] in by_digest]
    assert len(rows) > 400
    for row in rows:
        design = by_digest[row["id"]].resolve().design
        counted = {metric: sum(counts_of(design, metric, "xilinx").values()) for metric in ("srl", "ff")}
        assert counted["srl"] == float(row["srl"]), design.name
        # Registers that hold the same are one, constant bits of a product have none.
        assert 0 <= counted["ff"] - float(row["ff"]) <= 2 * design.lanes, design.name
        shifting += counted["srl"] > 0
    assert shifting > 100


@pytest.mark.parametrize("links", ["broadcast", "systolic"])
def test_shift_registers_of_links(links):
    array = ArrayDesign(4, 6, PE, links=links)
    assert sum(counts_of(array, "srl", "xilinx").values()) == (6 * WORD_BITS if links == "systolic" else 0)
    assert min(counts_of(array, "ff", "xilinx").values()) >= 0
    assert not any("shift" in name for metric in ("ff", "lut") for name in counts_of(array, metric) if "edge" in name)


@pytest.mark.parametrize(("modes", "pipeline", "measured"), [(("int8",), 4, 8), (("int8", "fp4"), 3, 2)])
def test_shift_registers_of_pes(modes, pipeline, measured):
    pe = MorphableDesign(modes, Accumulator("exact", depth=1024), pipeline=pipeline)
    assert sum(counts_of(pe, "srl", "xilinx").values()) == measured      # `bitkiln synth --target xilinx`, Yosys 0.70


def test_registers_between_rows_and_adders_are_counted():
    """Only of integers' rows: decoded operands are registered before they become rows."""
    for pair, pipeline, registered in (("int8", 3, True), ("int8", 2, False), ("uint8", 4, True),
                                       ("fp8_e4m3", 4, False)):
        counts = counts_of(DotDesign.from_pe(pair, pipeline=pipeline), "lut")
        again = {name: amount for name, amount in counts.items() if name.endswith("/registered")}
        assert bool(again) == registered
        assert all(amount == counts[name.replace("/registered", "/flat")] for name, amount in again.items())


# The estimate --------------------------------------------------------------------------------------------

COMPOSED = [PE, ArrayDesign(3, 2, PE), ArrayDesign(2, 4, PE, links="systolic"),
            MatmulDesign(ArrayDesign(2, 2, PE), bus_bits=64, k_words=64)]


@pytest.mark.parametrize("name", ["ecp5", "xilinx", "cells"])
def test_parts_add_up(name):
    designs = [*drawn(30, 8), *COMPOSED]
    tech = made_up(designs, name)
    for design in designs:
        found = area_estimate(design, tech)
        assert found.value == pytest.approx(sum(found.parts.values()))
        assert found.value == pytest.approx(sum(weight * found.metrics[metric]
                                                for metric, weight in tech.weights.items()))
        assert 0 < found.low < found.value < found.high and found.unit == tech.unit
        assert min(found.parts.values()) >= 0


def test_a_count_belongs_to_a_known_component():
    known = {"decode", "multiply", "align", "add", "accumulate", "encode", "control", "drain", "path", "edge", "load",
             "output"}
    for design in [*drawn(30, 8), *COMPOSED]:
        for block in design_blocks(design):
            assert {name.split(":")[0] for name in block.counts} <= known
            assert min(block.counts.values()) >= 0


@pytest.mark.parametrize("pair", ["int4", "int8", "fp4", "fp8_e4m3", "posit8_0", "int8xfp4"])
@pytest.mark.parametrize("pipeline", [0, 2, 4])
def test_more_lanes_or_depth_never_cost_less(pair, pipeline):
    lanes = [DotDesign.from_pe(pair, lanes=n, pipeline=pipeline) for n in range(1, 9)]
    depths = [DotDesign.from_pe(pair, lanes=2, pipeline=pipeline, accumulator=Accumulator("exact", depth=depth))
              for depth in (16, 64, 1000, 4096, 1 << 16)]
    for row in (lanes, depths):
        tech = made_up(row)
        areas = [area_estimate(design, tech) for design in row]
        for small, large in zip(areas, areas[1:], strict=False):
            assert large.value >= small.value and large.metrics["ff"] >= small.metrics["ff"]
        assert areas[-1].value > areas[0].value


def test_an_array_is_its_units_and_its_edges():
    tech = made_up([*COMPOSED, ArrayDesign(6, 6, PE)])
    one, four = (area_estimate(ArrayDesign(n, n, PE), tech) for n in (1, 2))
    for part in ("multiply", "add", "accumulate"):
        assert four.parts[part] == pytest.approx(4 * one.parts[part])


def test_a_part_that_was_never_fitted():
    design = DotDesign.from_pe("posit8_0", lanes=2)
    found = area_estimate(design, made_up([DotDesign.from_pe("int8", lanes=2)]))
    assert (found.value, found.low, found.high, found.known) == (None, None, None, False)
    first = found.note.removeprefix("never fitted: ").split(", ")[0]
    assert first in counts_of(design, "lut") and first not in counts_of(DotDesign.from_pe("int8", lanes=2), "lut")


def test_an_engine_without_a_model():
    with pytest.raises(BitkilnError, match="no area model for this engine at design: got 'int'"):
        area_estimate(3, made_up([PE]))


# Files of technologies -----------------------------------------------------------------------------------

def test_a_technology_survives_its_file(tmp_path):
    tech = made_up(COMPOSED)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(tech.as_dict()))
    assert area_estimate(PE, technology(path)).value == pytest.approx(area_estimate(PE, tech).value, rel=1e-4)
    assert area_estimate(PE, technology(str(path))).unit == "cells"


@pytest.mark.parametrize("text, message", [("{", "cannot read technology"), ("[]", "not a technology file"),
                                           ('{"schema": "bitkiln.tech/0"}', "not a technology file")])
def test_files_that_are_no_technologies(text, message, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BitkilnError, match=message):
        technology(path)


@pytest.mark.parametrize("name", technology_names())
def test_shipped_technologies(name):
    """Every one has its table and estimates a plain unit within its interval."""
    tech = technology(name)
    assert tech.name == name and (TECH / tech.provenance["table"]).exists()
    found = area_estimate(DotDesign.from_pe("int8", lanes=1), tech)
    assert found.low <= found.value <= found.high and found.unit in ("cells", "um2")
    assert tech.errors["pe"]["held_out"]["designs"] > 0


def test_unknown_technology():
    with pytest.raises(BitkilnError) as caught:
        technology("ecp6")
    assert "unknown technology" in str(caught.value) and "ecp5" in caught.value.help
