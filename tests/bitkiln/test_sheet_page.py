"""The HTML datasheet of a generated core: the same facts as its README, whole and without anything from outside."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.commands.common import resolve_design
from bitkiln.engines import engine_names
from bitkiln.flow.generate import generate
from bitkiln.flow.sheet import CoreSheet, core_sheet, to_markdown
from bitkiln.hw.emit import ports_of
from bitkiln.report.diagram import draw
from bitkiln.report.sheet_page import sheet_page

# Components that only tell their ports.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

VOID = {"meta", "br", "hr", "img"}


class Page(HTMLParser):
    """Tags in order, texts of cells and paragraphs, links; tags that do not match are an error."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []
        self.texts, self.cells = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "a":
            self.links.append(attrs["href"])
        self.sources += [attrs[key] for key in ("src", "data", "xlink:href") if key in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open or "svg" in self.open:
            return
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


FILES = ("core.v", "core.json", "core_tb.v", "core_tb.hex", "core_registers.h", "bitkiln_matmul.c", "README.md",
         "core.html", "core.svg")


@pytest.fixture(scope="module", params=engine_names())
def core(request):
    """Design, sheet, README and page of an engine's example, without its Verilog: that takes long."""
    resolved = resolve_design(None, engine=request.param)
    ports = [{"name": port.name, "direction": port.direction, "width": port.width, "signed": port.signed,
              "format": None, "role": "data"} for port in ports_of(resolved.component())]
    facts = {"ports": ports, "sha256": "0" * 64}
    if resolved.engine.vectors:
        facts["testbench"] = {"cycles": 50, "seed": 0}
    with pytest.MonkeyPatch.context() as patched:      # no measurement of the folder that tests start in
        patched.setattr(type(resolved), "build_folder", lambda self: Path("nowhere"))
        sheet = core_sheet(resolved, facts, FILES)
    diagram = draw(resolved)
    return resolved, to_markdown(sheet, "core.svg"), sheet_page(sheet, diagram), diagram


def plain(markdown: str) -> str:
    """Words of a line of Markdown."""
    return re.sub(r"\[`([^`]*)`\]\([^)]*\)|`", r"\1", markdown).strip()


def test_page_says_what_the_readme_says(core):
    _, readme, text, _ = core
    page = Page(text)
    cells = [" ".join(cell.split()) for cell in page.cells]
    rows = [line for line in readme.split("\n## ", 1)[1].splitlines() if line.startswith("|") and "---" not in line]
    wanted = [" ".join(plain(cell).split()) for row in rows for cell in row[1:-1].split("|")]
    assert len(rows) > 8 and cells == wanted
    words = " ".join("".join(page.texts).split())
    glance = [line.strip("| ").split(" | ") for line in readme.split("\n## ")[0].splitlines() if line.startswith("| ")]
    assert len(glance) > 4
    for row in glance[1:]:
        assert " ".join(row) in words or "".join(row) in words
    checked = 0
    for line in readme.splitlines():
        if line.startswith("## "):
            assert line[3:] in words and re.sub(r"\W+", "-", line[3:].lower()) in page.ids
        elif line and not line.startswith(("|", "!", "#", "```")):
            text = " ".join(re.sub(r"^(- |\d\. )", "", plain(line)).split())
            assert text in words, line
            checked += 1
    assert checked > 20


def test_page_is_whole_and_alone(core):
    resolved, readme, text, diagram = core
    page = Page(text)
    assert page.sources == [] and len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|<script", text)
    assert "default-src 'none'" in text and "@media print" in text and "prefers-color-scheme: dark" in text
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert [link for link in page.links if not link.startswith("#")] == list(FILES)
    assert text.count(diagram) == 1 and resolved.name in diagram
    assert "![Block diagram](core.svg)" in readme
    # Two powers in a line would be bold.
    assert "<strong>" not in text and "<em>" not in text


def test_area_with_where_it_is_from(core):
    resolved, readme, _, _ = core
    short = next(line for line in readme.splitlines() if line.startswith("| Area |"))
    long = readme.split("## Area and speed\n\n")[1].split("\n")[0]
    if resolved.engine.name in ("dot_unit", "morphable_pe", "matmul_array", "matmul_core"):
        about, = re.findall(r"about ([\d,]+) cells \(predicted, Lattice ECP5\)", short)
        cells, low, high = (int(number.replace(",", "")) for number in
                            (about, *re.search(r"between ([\d,]+) and ([\d,]+)", long).groups()))
        assert 0 < low < cells < high and f"{about} cells" in long and "ecp5.csv" in long
    else:
        assert short == "| Area | not measured yet |" and "no area model for this engine" in long
    assert "`bitkiln synth` measures" in long


def test_files_that_generate_writes():
    files = generate(resolve_design("fp4"), Path("out"), cycles=50)
    page = Page(files.paths["page"].read_text())
    assert {path.name for path in files.folder.iterdir()} == {link for link in page.links if not link.startswith("#")}
    svg = files.paths["diagram"].read_text()
    assert svg in files.paths["page"].read_text() and ElementTree.fromstring(svg).tag.endswith("svg")
    assert files.paths["diagram"].name in files.paths["datasheet"].read_text()


def test_measured_area(capsys):
    """The command's own run, in the folder where it works."""
    assert run_cli(["synth", "int4", "--lanes", "1", "--seeds", "0"]) == 0
    assert run_cli(["generate", "int4", "--lanes", "1"]) == 0
    page, = Path("build").glob("dot_int4_l1_*/*.html")
    text = page.read_text()
    assert re.search(r"<dd>\d+ lut, \d+ carry, \d+ ff \(measured, Lattice ECP5\)</dd>", text)
    assert "Measured on Lattice ECP5 (yosys " in text and "synth_ecp5" in text


def test_names_are_no_tags():
    sheet = CoreSheet("a<b", "x & y", {"<i>": "1 < 2"}, {
        "One & <two>": "text <script>alert(1)</script>\n\n| a |\n|---|\n| <b>c</b> |"}, "0")
    text = sheet_page(sheet, "<svg></svg>\n")
    assert "<script" not in text and "<b>c" not in text and "<i>" not in text
    assert "a&lt;b" in text and "One &amp; &lt;two&gt;" in text
    Page(text)
    assert to_markdown(sheet).startswith("# a<b\n") and "Block diagram" not in to_markdown(sheet)
