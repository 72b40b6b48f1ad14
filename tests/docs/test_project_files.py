"""Files around the project: citation, changelog, workflow, guides. What they name exists."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys

import pytest
from doc_pages import ROOT, blocks_of, inline_code, pages
from ruamel.yaml import YAML

from bitkiln import __version__
from bitkiln.engines import Engine, engine, engine_names

# Not of this project: files in what it generates.
ELSEWHERE = {"docs/info.md"}
ROOMS = ("bitkiln", "boards", "host", "hw", "models", "sim", "tests", "docs", "benchmarks")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_citation():
    data = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert data["cff-version"] == "1.2.0" and data["title"] == "Bitkiln" and data["license"] == "Apache-2.0"
    assert data["version"] == __version__
    assert data["message"] and data["authors"]
    papers = {paper["title"].split(":")[0]: paper for paper in data["references"]}
    assert set(papers) == {"XR-NPE", "SpOctA", "BitMoD"}
    page = (ROOT / "docs" / "citation.md").read_text(encoding="utf-8")
    for paper in papers.values():
        assert " ".join(paper["title"].split()) in page
        assert all("family-names" in author or "name" in author for author in paper["authors"])
        assert any(each["value"].replace("arXiv:", "arXiv ") in page for each in paper["identifiers"])
        assert "doi" not in paper or paper["doi"] in page


def test_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.M)
    assert versions[0][0] == "Unreleased"
    assert __version__ in dict(versions) and all(date for version, date in versions[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# Workflow -------------------------------------------------------------------------------------------------------------

def steps() -> list[tuple[str, dict]]:
    data = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert set(data) >= {"name", "on", "jobs", "permissions"}
    return [(name, step) for name, job in data["jobs"].items() for step in job["steps"]]


def test_workflow_calls_make_targets_that_exist():
    commands = [line for _, step in steps() for line in step.get("run", "").splitlines() if line.strip()]
    called = {command.split()[1] for command in commands if command.startswith("make ")}
    assert all(command.startswith("make ") for command in commands)
    assert called <= TARGETS
    assert called >= {"lint", "test", "docs", "synth-table"}


def test_workflow_has_what_was_promised():
    data = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert data["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert all("timeout-minutes" in job for job in data["jobs"].values())
    assert all("run" in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for _, step in steps())
    assert any("GITHUB_STEP_SUMMARY" in step.get("run", "") for _, step in steps())


@pytest.mark.slow
def test_synth_table(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "synth_table.py", "fp4", "int4", "--seeds", "1"],
                          cwd=tmp_path, env={**os.environ, "BITKILN_STORE": str(tmp_path / "store.sqlite")},
                          capture_output=True, text=True, check=True)
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", done.stdout, re.M)
    assert [row[0] for row in rows] == ["fp4", "int4"]
    assert all(int(lut.replace(",", "")) > 20 and int(clock) > 30 for _, lut, _, _, clock in rows)
    assert "### " in done.stdout and "yosys " in done.stdout


# Guides ---------------------------------------------------------------------------------------------------------------

def test_paths_named_in_the_pages_exist():
    """`models/formats/registry.py` in a page is a file or folder; `*` stands for anything."""
    wrong, count = [], 0
    for page in pages():
        for span in inline_code(page.text):
            if re.fullmatch(rf"({'|'.join(ROOMS)})/[\w./*-]*", span):
                count += 1
                if not list(ROOT.glob(span.rstrip("/"))) and span not in ELSEWHERE:
                    wrong.append(f"{page.name}: {span}")
    assert not wrong, "\n".join(wrong)
    assert count > 100


def test_guide_to_engines_has_every_attribute_of_the_registry():
    text = (ROOT / "docs" / "guides" / "adding_an_engine.md").read_text(encoding="utf-8")
    table = text[text.index("## The entry"):text.index("## Other registries")]
    named = {span for row in re.findall(r"^\| (`.*?) \|", table, re.M) for span in inline_code(row)}
    assert named == {field.name for field in dataclasses.fields(Engine)}


def test_guide_to_engines_follows_one_that_exists():
    text = (ROOT / "docs" / "guides" / "adding_an_engine.md").read_text(encoding="utf-8")
    entry = engine("sparse_side")
    for part in ("config", "component", "steps", "datasheet", "diagram"):
        module = getattr(entry, part).partition(":")[0].replace(".", "/") + ".py"
        path = module if module.startswith("hw/") else f"bitkiln/{module}"
        assert f"`{path}`" in text, part


def test_guide_to_boards_has_every_attribute():
    from bitkiln.boards.board import Board

    text = (ROOT / "docs" / "guides" / "adding_a_board.md").read_text(encoding="utf-8")
    table = text[text.index("## The file"):text.index("## The clock")]
    named = {span for row in re.findall(r"^\| (`.*?) \|", table, re.M) for span in inline_code(row)}
    assert named == {field.name for field in dataclasses.fields(Board)}


def test_every_engine_has_a_datasheet_page():
    data = "".join((ROOT / "docs" / name).read_text() for name in
                   ("mac_units.md", "matmul_core.md", "bitserial.md", "codebook.md", "spconv.md"))
    assert all(f"`{name}`" in data or name == "matmul_core" for name in engine_names())


def test_yaml_blocks_of_the_pages_are_designs(tmp_path):
    """What stands in a yaml block behind a file name can be read, and designs among them are legal."""
    from bitkiln.config import load_design

    designs = 0
    for page in pages():
        for block in blocks_of(page.text):
            if block.language != "yaml" or block.key != "file":
                continue
            data = YAML(typ="safe").load(block.text)
            if "engine" in data:
                path = tmp_path / "check.yaml"
                path.write_text(block.text)
                assert load_design(path).engine.name == data["engine"]
                designs += 1
    assert designs >= 4
