"""Sphinx configuration of the documentation site: ``make docs``.

The source folder is the whole checkout, so that links between README.md, CONTRIBUTING.md and docs/ are the same on the
site as in a repository browser. Only the pages named below are read. Nothing on the site needs a network: Furo carries
its own style and scripts, formulas are plain text, figures are files of docs/figures.
"""

from __future__ import annotations

from bitkiln import __version__

project = "Bitkiln"
author = "the Bitkiln contributors"
copyright = f"{author}, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",                    # Markdown pages and the notebook
    "sphinx.ext.autodoc",         # API reference, from docstrings
    "sphinx.ext.napoleon",        # which are numpydoc
]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
# Folders that are searched for pages otherwise: left out by name, since the environment alone has ten thousand files.
exclude_patterns = ["**/.*", "build", "benchmarks", "bitkiln", "bitkiln.egg-info", "boards", "host", "hw", "models",
                    "sim", "tests", "**/__pycache__"]
templates_path = ["_templates"]

# Markdown ---------------------------------------------------------------------------------------------------------

nb_execution_mode = "off"         # the test suite runs the notebook; its outputs are committed
myst_heading_anchors = 4          # links like page.md#heading, named as repository browsers do
myst_enable_extensions = []
suppress_warnings = [
    "ref.python",                 # a word of a type, as in "(rows, lanes)", that is also the name of several attributes
]

# API --------------------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
napoleon_google_docstring = False
# Types are words ("(rows, lanes) uint8"), not names to be linked.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = False
default_role = "code"             # `name` in a docstring
python_use_unqualified_type_names = True

# Pages ------------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"Bitkiln {release}"
html_static_path = []
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# The first page is docs/index.html, as in the checkout; this one leads there.
html_additional_pages = {"index": "to_docs.html"}
pygments_style = "friendly"
pygments_dark_style = "monokai"
