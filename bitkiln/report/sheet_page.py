"""The datasheet of a generated core as one HTML file, for screens and A4 paper, with nothing from outside."""

from __future__ import annotations

import html
import re
from importlib.resources import files

from ..flow.sheet import CoreSheet

__all__ = ["sheet_page"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"


def sheet_page(sheet: CoreSheet, diagram: str) -> str:
    """The page of a sheet: the same sections as its README, its block diagram (SVG text) drawn inside.

    A content security policy forbids the page every request and every script.
    """
    glance = "\n".join(f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(text)}</dd></div>"
                       for what, text in sheet.glance.items())
    anchors = {title: _anchor(title) for title in sheet.sections}
    sections = "\n".join(f'<section id="{anchors[title]}">\n<h2>{html.escape(title)}</h2>\n{_rendered(text)}</section>'
                         for title, text in sheet.sections.items())
    links = "\n".join(f'<a href="#{anchor}">{html.escape(title)}</a>' for title, anchor in anchors.items())
    style = files(__package__).joinpath("page", "datasheet.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(sheet.name)}: datasheet</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{html.escape(sheet.name)}</h1>
<p class="lead">{html.escape(sheet.lead)}</p>
</header>
<dl>
{glance}
</dl>
<figure>
{diagram}</figure>
<nav aria-label="Sections">
{links}
</nav>
<main>
{sections}
</main>
<footer>SHA-256 of <code>{html.escape(sheet.name)}.v</code>: <code>{sheet.digest}</code></footer>
</body>
</html>
"""


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _rendered(text: str) -> str:
    """Markdown as HTML; tags in it are text, and wide tables scroll by themselves."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return made.replace("<table>", '<div class="scroll">\n<table>').replace("</table>", "</table>\n</div>")
