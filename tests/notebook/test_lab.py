"""JupyterLab in a real browser."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"

pytestmark = pytest.mark.browser


@pytest.fixture
def lab(short_path: Path, store_path: Path, tmp_path: Path, _containers_work: str) -> Iterator[str]:
    """The address of a JupyterLab on the quick start, with a store and settings of the tests' own."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    require("jupyterlab", available=importlib.util.find_spec("jupyterlab") is not None)
    shutil.copy(QUICKSTART, tmp_path)
    runtime = short_path / "lab"
    runtime.mkdir()
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
        yield _address(server, runtime)
    finally:
        server.terminate()
        server.wait(DEADLINE)


def _address(server: subprocess.Popen[bytes], runtime: Path) -> str:
    """Where the server listens: it writes a file when it does."""
    deadline = time.monotonic() + 3 * DEADLINE
    while time.monotonic() < deadline:
        assert server.poll() is None, (runtime / "log").read_text()
        for path in runtime.glob("jpserver-*.json"):
            facts = json.loads(path.read_text())
            return f"http://127.0.0.1:{facts['port']}/lab/tree/quickstart.ipynb?reset&token={facts['token']}"
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


def test_run_all_in_jupyterlab(lab: str, browser: Chrome) -> None:
    """The quick start opens in JupyterLab, and Run All shows its cells' outputs, from the first to the last."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def find(selector: str, text: str = "") -> bool:
        return any(text in element.text for element in browser.find_elements(By.CSS_SELECTOR, selector))

    def click(selector: str, text: str) -> None:
        wait.until(lambda _: find(selector, text))
        next(e for e in browser.find_elements(By.CSS_SELECTOR, selector) if text in e.text).click()

    wait = WebDriverWait(browser, 3 * DEADLINE)
    browser.get(lab)
    wait.until(lambda _: find(".jp-Notebook .jp-MarkdownOutput h1", "nbcontainer in five minutes"))
    wait.until(lambda _: find(".jp-Toolbar-kernelName", "Python 3"))
    click(".lm-MenuBar-itemLabel", "Run")
    click(".lm-Menu-itemLabel", "Run All Cells")
    for text in ("hello from ", "rain: 15", "it is mine: True", "the answer is 42", "stopped after its time limit"):
        wait.until(functools.partial(lambda text, _: find(".jp-OutputArea-output", text), text))
    assert not find(".jp-OutputArea-output", "Error")
