"""The settings of the documentation site: `python -m docs.build` makes it.

The sources are the whole repository, so that the links between docs/, notebooks/ and the pages at the top are
those that GitHub has. No page loads anything from another host.
"""

from __future__ import annotations

from nbcontainer._version import __version__

project = "nbcontainer"
copyright = "The nbcontainer developers"  # noqa: A001 - Sphinx's name for it
release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "docs.generated",
    "docs.cell_lexer",
    "docs.page_changes",
]

root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/**", "README.md", "README.zh.md", "SECURITY.md", "CHANGELOG.md"]
# Sphinx walks through all folders that are not excluded.
exclude_patterns = [".*", "_site", "build", "dist", "nbcontainer", "tests", "kernelspec", "**/.ipynb_checkpoints"]

myst_heading_anchors = 4  # the anchors that GitHub gives to headings
myst_enable_extensions = ["attrs_inline", "attrs_block"]
nb_execution_mode = "off"  # the outputs are stored; other tests run the notebooks
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would be loaded from another host
suppress_warnings = ["myst.header"]  # the README begins with pictures between its headings

default_role = "code"  # docstrings have names in single backquotes
autodoc_typehints = "none"
autodoc_member_order = "bysource"

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "nbcontainer"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_top"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "github-dark"
