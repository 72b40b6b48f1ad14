"""The documentation site: builds without a warning, needs no network, and has every page."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from doc_pages import ROOT

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Resources(HTMLParser):
    """What a page loads, and where it links to."""

    def __init__(self, text: str):
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in LOADED and given.get(LOADED[tag]) and given.get("rel") != "canonical":
            self.loaded.append(given[LOADED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built as `make docs` builds it: warnings are errors."""
    pytest.importorskip("furo", reason="pip install 'bitkiln[docs]'")
    folder = tmp_path_factory.mktemp("site")
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    assert "-W" in recipe.split()
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-c", "docs", "-d", str(folder / "trees"), "-W"]
    done = subprocess.run([*command, "--keep-going", "-q", ".", str(folder / "html")], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr[-4000:]
    return folder / "html"


@pytest.mark.slow
def test_every_page_is_there(site):
    sources = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for source in sources:
        assert (site / source.relative_to(ROOT)).with_suffix(".html").is_file(), source
    assert 'url=docs/index.html"' in (site / "index.html").read_text()


@pytest.mark.slow
def test_nothing_is_loaded_from_a_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for address in Resources(page.read_text(encoding="utf-8")).loaded:
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc or parts.scheme == "data", f"{page.name} loads {address}"
            if parts.path and not parts.scheme:
                assert (page.parent / parts.path).exists(), f"{page.name} loads {address}, which is not there"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_links_lead_somewhere(site):
    checked = 0
    for page in site.rglob("*.html"):
        for address in Resources(page.read_text(encoding="utf-8")).links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            target = (page.parent / parts.path).resolve()
            assert target.exists(), f"{page.relative_to(site)} links to {address}"
            if parts.fragment and target.suffix == ".html":
                assert f'id="{parts.fragment}"' in target.read_text(encoding="utf-8"), f"{page.name}: {address}"
            checked += 1
    assert checked > 1000


@pytest.mark.slow
def test_api_pages_have_docstrings(site):
    text = (site / "docs" / "reference" / "api" / "golden.html").read_text(encoding="utf-8")
    assert 'id="bitkiln.models.golden.dot.dot"' in text and "Parameters" in text
