"""The interactive page of a sweep: one HTML file with its data, its style and its scripts inside."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

from ..models.errors import MISSING_TOOL, BitkilnError
from .sweep_data import KINDS, axis_pairs, family_styles, is_log, pretty_unit

__all__ = ["page_data", "render_page"]

SCRIPTS = ("core.js", "details.js", "pareto.js", "table.js", "roofline.js", "layers.js", "area.js", "about.js",
           "main.js")       # main.js starts the page, so it is the last
DATA_TAG = re.compile(r'<script id="sweep-data" type="application/octet-stream">([^<]*)</script>')


def render_page(sweep: dict[str, Any]) -> str:
    """The page as text.

    The data is compressed JSON in Base64: a sweep of thousands of points stays a few megabytes, and no name in it can
    end a script or start a tag. A content security policy forbids the page every request, and every script but its own.

    Parameters
    ----------
    sweep : dict
        As `check_sweep` returns it.

    Raises
    ------
    BitkilnError
        Exit code 3 when plotly is not installed.
    """
    script = "\n".join(_part(name) for name in SCRIPTS)
    plotly = _plotly_js()
    style = _part("sweep.css")
    policy = "; ".join([
        "default-src 'none'", "form-action 'none'", "base-uri 'none'", "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "script-src " + " ".join(f"'sha256-{_digest(text)}'" for text in (plotly, script)),
    ])
    parts = {"policy": policy, "title": html.escape(sweep["title"]), "style": style, "plotly": plotly,
             "script": script, "data": _packed(sweep)}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found.group(1)], _part("sweep.html"))


def page_data(page: str) -> dict[str, Any]:
    """What a page was made from: ``sweep`` and the styles that go with it.

    Raises
    ------
    BitkilnError
        When the text is no such page.
    """
    found = DATA_TAG.search(page)
    if not found:
        raise BitkilnError("not a sweep report", where="page", expected="a page of `bitkiln sweep`")
    return json.loads(gzip.decompress(base64.b64decode(found.group(1))))


def _packed(sweep: dict[str, Any]) -> str:
    names = [metric["name"] for metric in sweep["metrics"]]
    data = {
        "sweep": sweep,
        "pairs": axis_pairs(sweep),
        "families": {name: {"light": light, "dark": dark, "symbol": symbol}
                     for name, (light, dark, symbol, _) in family_styles(sweep).items()},
        "log": [name for name in names if is_log(sweep, name)],
        "units": {metric["unit"]: pretty_unit(metric["unit"]) for metric in sweep["metrics"]},
        "kinds": KINDS,
    }
    raw = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode("ascii")


def _part(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise BitkilnError("a package is missing", where="report", got="no plotly", expected="plotly",
                           help="pip install 'bitkiln[explore]'", exit_code=MISSING_TOOL) from None
    # A browser turns CR LF into LF before it hashes a script.
    return get_plotlyjs().replace("\r\n", "\n").replace("</script", "<\\/script")


def _digest(script: str) -> str:
    # The line ends around the placeholders in the template belong to the script that the browser hashes.
    return base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode("ascii")
