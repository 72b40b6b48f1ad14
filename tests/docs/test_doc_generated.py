"""Parts of docs/ that come from the code: figures, the command line's reference, and figures quoted in the text."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from doc_pages import ROOT

from bitkiln.report.cli_sheet import COMMAND, SHEET, sheet

sys.path.insert(0, str(ROOT / "docs" / "figures"))
import make

CONCEPTS = ROOT / "docs" / "concepts"


@pytest.mark.parametrize("name", make.FIGURES)
def test_figure_is_that_of_the_code(name):
    drawn = make.FIGURES[name]().svg()
    assert (ROOT / "docs" / "figures" / name).read_text(encoding="utf-8") == drawn, "run python docs/figures/make.py"
    root = ElementTree.fromstring(drawn)
    assert len(drawn) < 20_000
    # White ground: it reads the same on a dark page. Nothing is fetched.
    ground = root.find("{http://www.w3.org/2000/svg}rect")
    assert ground is not None and ground.get("fill") == "#ffffff" and ground.get("width") == root.get("width")
    assert "href" not in drawn and "url(" not in drawn


def test_every_figure_is_shown():
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    for path in (ROOT / "docs" / "figures").glob("*.svg"):
        assert f"figures/{path.name})" in pages + (ROOT / "README.md").read_text(), path.name


def test_command_line_reference_is_that_of_the_commands():
    page = (ROOT / SHEET).read_text(encoding="utf-8")
    assert page == sheet(), f"run {COMMAND}"


def test_command_line_reference_has_every_command_and_option():
    import typer

    from bitkiln.cli import app

    text, count = sheet(), 0
    for name, command in typer.main.get_command(app).commands.items():
        if not getattr(command, "hidden", False):
            assert f"## `bitkiln {name}`" in text
            for parameter in command.params:
                options = [option for option in parameter.opts if option.startswith("-")]
                if parameter.name != "help" and not getattr(parameter, "hidden", False):
                    assert all(f"`{option}`" in text for option in options)
                    count += len(options)
    assert count > 150


# What the concept pages quote ---------------------------------------------------------------------------------------

def test_widths_quoted_in_exact_accumulation():
    widths = {name: total for name, _, _, total in make.accumulator_widths()}
    text = (CONCEPTS / "exact_accumulation.md").read_text()
    assert (f"Bits of exact accumulators for 1,024 products: {widths['ternary']} for ternary, {widths['fp4']} for FP4, "
            f"{widths['int8']} for int8, {widths['fp8_e4m3']} for E4M3, {widths['posit16_1']} for posit16_1") in text
    fp4 = next(row for row in make.accumulator_widths() if row[0] == "fp4")
    assert fp4[1:] == (8, 10, 19)


def test_orders_quoted_in_exact_accumulation():
    errors, _ = make.order_errors()
    text = (CONCEPTS / "exact_accumulation.md").read_text()
    assert f"gives {len(np.unique(errors))} different" in text
    assert f"up to {np.abs(errors).max() * 1e6:.1f} millionths off" in text
    assert len(errors) == 1000


def test_terms_of_the_picture():
    """Each row of the picture adds up to its value."""
    rows = make.term_rows()
    assert len(rows) == 8 + 2 + len(make.INT8)
    for _, _, value, terms, unit in rows:
        assert sum((-1) ** term.negative * unit * 2.0**term.shift for term in terms if term is not None) == value


def test_tree_of_the_picture():
    """The words of the tree lead from the root to each voxel."""
    keys, places, tree = make.drawn_tree()
    for rank, key in enumerate(keys.tolist()):
        node = 0
        for level in range(make.GRID, 0, -1):
            digit, mask = key >> 3 * (level - 1) & 7, int(tree.masks[level][node])
            assert mask >> digit & 1
            node = int(tree.bases[level][node]) + (mask & (1 << digit) - 1).bit_count()
        assert node == rank
    assert sorted(map(tuple, places.tolist())) == sorted(make.CELLS)
