"""Changes to pages as Sphinx reads and writes them.

Drawings become part of their page, so that their text can be selected; Sphinx would make files of them. Pictures in two
colours (`<picture>`, as GitHub needs it) become one for light pages and one for dark pages. A link to a folder or a
program, which GitHub shows, is its text. Chinese pages have their language. MyST-NB writes nothing beside the site.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]

_PICTURE = re.compile(
    r'<picture>\s*<source media="[^"]*dark[^"]*" srcset="(?P<dark>[^"]+)">\s*'
    r'<img src="(?P<light>[^"]+)" width="(?P<width>\d+)" alt="(?P<alt>[^"]*)">\s*</picture>'
)
_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)#:\s]+)\)")
_PAGES = (".md", ".ipynb")
_SVG = "image/svg+xml"
_CHART = re.compile(r"^```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)
_CHART_DRAWN = "\n".join(
    f"![The notebook, the launcher, init and the cell](images/processes-{theme}.svg){{.only-{theme}}}"
    for theme in ("light", "dark")
)


def read(_app: Any, name: str, source: list[str]) -> None:
    """Change the text of a page before it is parsed."""
    if source[0].lstrip().startswith("{") and "nbformat" in source[0]:
        source[0] = with_drawings(source[0])
    else:
        source[0] = without_other_links(with_both_pictures(source[0]), (PROJECT / name).parent)
    if name == "docs/architecture":
        source[0] = with_drawn_chart(source[0])


def with_drawings(notebook: str) -> str:
    """Return a notebook, as JSON, whose SVG outputs are HTML, and whose cells have the colours of `CellLexer`."""
    document = json.loads(notebook)
    document["metadata"].setdefault("language_info", {"name": "python"})["pygments_lexer"] = "ipython"
    for cell in document["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if _SVG in data:
                data["text/html"] = data.pop(_SVG)
    return json.dumps(document)


def with_both_pictures(page: str) -> str:
    """Return a page whose `<picture>` elements are a picture for light pages and one for dark pages."""
    return _PICTURE.sub(_two, page)


def _two(found: re.Match[str]) -> str:
    alt = found["alt"].replace("[", "").replace("]", "")
    light, dark = (f"![{alt}]({found[name]}){{.only-{name} width={found['width']}px}}" for name in ("light", "dark"))
    return f"{light}\n{dark}"


def without_other_links(page: str, folder: Path) -> str:
    """Return a page of a folder whose links to files of the project that the site does not have are their texts."""
    return _LINK.sub(lambda found: found[1] if _is_other(folder / found[2]) else found[0], page)


def _is_other(target: Path) -> bool:
    return target.exists() and target.suffix not in _PAGES


def with_drawn_chart(page: str) -> str:
    """Return a page whose Mermaid chart, which GitHub draws, is the drawing of it in docs/images."""
    return _CHART.sub(_CHART_DRAWN, page)


def say_language(_app: Any, name: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Give Chinese pages their language."""
    if "/zh/" in name or name.endswith((".zh", "-zh")):
        context["language"] = "zh-Hans"


def keep_inside(app: Any) -> None:
    """Have MyST-NB write its files of notebooks, pictures in outputs, into the site: it writes them beside it."""
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=str(Path(app.outdir) / ".doctrees" / "outputs"))


def setup(app: Any) -> dict[str, bool]:
    """Register the changes with Sphinx."""
    app.connect("builder-inited", keep_inside, priority=900)  # after MyST-NB's own, which sets it
    app.connect("source-read", read)
    app.connect("html-page-context", say_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
