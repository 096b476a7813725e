"""Draws the Mermaid chart of docs/architecture.md for the site: `python -m tests.notebook.mermaid_drawings`.

GitHub draws the chart itself. The site must not load Mermaid from another host, so JupyterLab's Mermaid draws it here,
in a headless Chromium, as docs/images/processes-light.svg and processes-dark.svg. Needs chromium and chromedriver.
"""

from __future__ import annotations

import hashlib
import tempfile
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import documents
from tests.documents import PROJECT

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

IMAGES = PROJECT / "docs" / "images"
_PATIENCE = 90.0  # seconds
_DRAWN = ".jp-RenderedMermaid img"


def chart() -> str:
    """The chart in docs/architecture.md, as Mermaid's text."""
    return documents.fences((PROJECT / "docs" / "architecture.md").read_text(), "mermaid")[0]


def mark(text: str) -> str:
    """The comment that a drawing has at its end: the digest of the text that was drawn."""
    return f"<!-- {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def main() -> None:
    """Draws the chart in both colours."""
    from tests.notebook.screenshots import THEMES, browser, lab

    with tempfile.TemporaryDirectory(prefix="chart-") as folder:
        for name, theme in THEMES.items():
            place = Path(folder) / name
            work = place / "work"
            work.mkdir(parents=True)
            nbformat.write(_notebook(chart()), work / "chart.ipynb")  # type: ignore[no-untyped-call]
            with lab(place, work, theme) as address, browser(place) as driver:
                drawing = _drawn(driver, address("chart.ipynb"))
            (IMAGES / f"processes-{name}.svg").write_text(drawing + mark(chart()))


def _notebook(text: str) -> object:
    made = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    made.cells = [nbformat.v4.new_markdown_cell(f"```mermaid\n{text}\n```")]  # type: ignore[no-untyped-call]
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    return made


def _drawn(driver: Chrome, address: str) -> str:
    driver.get(address)
    image = WebDriverWait(driver, _PATIENCE).until(lambda _: driver.find_elements(By.CSS_SELECTOR, _DRAWN))[0]
    return urllib.parse.unquote(str(image.get_attribute("src")).partition(",")[2])


if __name__ == "__main__":
    main()
