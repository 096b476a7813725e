"""JupyterLab in a real browser."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.notebook import science
from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"

pytestmark = pytest.mark.browser


@pytest.fixture
def lab(short_path: Path, store_path: Path, tmp_path: Path, _containers_work: str) -> Iterator[Callable[[str], str]]:
    """A JupyterLab with a store and settings of the tests' own: the address of a notebook in it, by its name."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    require("jupyterlab", available=importlib.util.find_spec("jupyterlab") is not None)
    shutil.copy(QUICKSTART, tmp_path)
    science.write_all(tmp_path, tmp_path / ".local/share/jupyter/kernels", store_path)
    runtime = Path(tempfile.mkdtemp(prefix="lab-", dir=short_path))
    env = {
        **os.environ,
        "NBCONTAINER_HOME": str(store_path),
        "HOME": str(tmp_path),
        "IPYTHONDIR": str(short_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_CONFIG_DIR": str(runtime / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(runtime / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(runtime / "workspaces"),
    }
    words = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={tmp_path}",
        "--KernelManager.transport=ipc",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with (runtime / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *words], env=env, stderr=log)
    try:
        root, token = _address(server, runtime)
        yield lambda name: f"{root}/lab/tree/{name}?reset&token={token}"
    finally:
        server.terminate()
        server.wait(DEADLINE)


def _address(server: subprocess.Popen[bytes], runtime: Path) -> tuple[str, str]:
    """Where the server listens, and its token: it writes a file when it does."""
    deadline = time.monotonic() + 3 * DEADLINE
    while time.monotonic() < deadline:
        assert server.poll() is None, (runtime / "log").read_text()
        for path in runtime.glob("jpserver-*.json"):
            facts = json.loads(path.read_text())
            return f"http://127.0.0.1:{facts['port']}", str(facts["token"])
        time.sleep(0.05)
    raise AssertionError((runtime / "log").read_text())


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """A headless Chromium that asks nobody outside."""
    require("chromium")
    require("chromedriver")
    require("selenium", available=importlib.util.find_spec("selenium") is not None)
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in (
        "headless=new",
        "no-sandbox",  # it does not start as root with it
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1400,1000",
        f"user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(f"--{word}")
    driver = Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    yield driver
    driver.quit()


class Page:
    """What is seen and clicked in the browser."""

    def __init__(self, browser: Chrome) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        self._wait = WebDriverWait(browser, 3 * DEADLINE)

    def shows(self, selector: str, text: str = "") -> bool:
        """Whether an element with that text is there now."""
        return any(text in element.text for element in self._elements(selector))

    def wait_for(self, selector: str, text: str = "") -> None:
        """Waits until one is."""
        self._wait.until(lambda _: self.shows(selector, text))

    def click(self, selector: str, text: str) -> None:
        """Clicks it, when it is there."""
        self.wait_for(selector, text)
        next(element for element in self._elements(selector) if text in element.text).click()

    def run_all(self) -> None:
        """Run All Cells, by the menu."""
        self.click(".lm-MenuBar-itemLabel", "Run")
        self.click(".lm-Menu-itemLabel", "Run All Cells")

    def _elements(self, selector: str) -> list[WebElement]:
        from selenium.webdriver.common.by import By

        return self.browser.find_elements(By.CSS_SELECTOR, selector)


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
