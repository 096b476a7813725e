"""JupyterLab in a real browser."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.notebook import science
from tests.notebook.browsers import Page, chromium, lab_server
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"

pytestmark = pytest.mark.browser


@pytest.fixture
def lab(short_path: Path, store_path: Path, tmp_path: Path, _containers_work: str) -> Iterator[Callable[[str], str]]:
    """A JupyterLab with a store and settings of the tests' own: the address of a notebook in it, by its name."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    require("jupyterlab", available=importlib.util.find_spec("jupyterlab") is not None)
    shutil.copy(QUICKSTART, tmp_path)
    science.write_all(tmp_path, tmp_path / ".local/share/jupyter/kernels", store_path)
    with lab_server(tmp_path, short_path, store_path) as address:
        yield address


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """A headless Chromium."""
    require("selenium", available=importlib.util.find_spec("selenium") is not None)
    with chromium(tmp_path / "chromium") as driver:
        yield driver


def test_run_all_in_jupyterlab(lab: Callable[[str], str], browser: Chrome) -> None:
    """The quick start opens in JupyterLab, and Run All shows its cells' outputs, from the first to the last."""
    page = Page(browser)
    browser.get(lab("quickstart.ipynb"))
    page.wait_for(".jp-Notebook .jp-MarkdownOutput h1", "nbcontainer in five minutes")
    page.wait_for(".jp-Toolbar-kernelName", "Python 3")
    page.run_all()
    for text in ("hello from ", "rain: 15", "it is mine: True", "the answer is 42", "stopped after its time limit"):
        page.wait_for(".jp-OutputArea-output", text)
    assert not page.shows(".jp-OutputArea-output", "Error")


@pytest.mark.parametrize("kernel", science.KERNELS)
def test_a_table_and_a_plot_from_inside(lab: Callable[[str], str], browser: Chrome, kernel: str) -> None:
    """In JupyterLab, a kernel in a container without a network shows a DataFrame as a table, and a plot."""
    science.require_packages()
    page = Page(browser)
    browser.get(lab(f"{kernel}.ipynb"))
    page.wait_for(".jp-StatusBar-Widget", f"{kernel} | Idle")
    page.run_all()
    page.wait_for(".jp-OutputArea-output", "interfaces: lo")
    page.wait_for(".jp-OutputArea-output table td", "sunny")
    page.wait_for('.jp-OutputArea-output img[src^="data:image/png"]')
    assert not page.shows(".jp-OutputArea-output", "Error")
