"""Takes the pictures of notebooks that the pages show, in docs/images: notebook-light.png, views-dark.png and so on.

    python -m tests.notebook.screenshots

Runs the README's first cells, and cells that show what verbs return, in JupyterLab in a headless Chromium. Needs
chromium and chromedriver.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import nbformat
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from selenium.webdriver.remote.webelement import WebElement

PROJECT = Path(__file__).parents[2]
IMAGES = PROJECT / "docs" / "images"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

_CELLS = 5

_VIEWS = (
    "%load_ext nbcontainer",
    "%%container busybox --name dev --footer\n"
    "mkdir -p /opt/app/lib /opt/app/data\n"
    "for i in $(seq 60); do echo $i > /opt/app/lib/m$i.py; done\n"
    "dd if=/dev/zero of=/opt/app/data/table.bin bs=1M count=7 2>/dev/null\n"
    "rm /bin/vi; echo new > /etc/motd",
    "%container diff dev",
    "%container ps",
    "%container df",
    "%%container --name dev --footer\nset -e\nmake --version\necho done",
    "%container history dev",
)
"""Cells whose outputs are views; the last but one has an error that the shell reports."""
_WIDTH, _HEIGHT, _SCALE = 980, 1400, 2  # pixels of the page, and of the picture for each of the page's
_COLORS = 128
_PATIENCE = 90.0  # seconds


def main() -> None:
    """Takes all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shot-") as folder:
        place = Path(folder)
        for name, theme in THEMES.items():
            work = place / name / "work"
            work.mkdir(parents=True)
            with lab(place / name, work, theme) as address, browser(place / name) as driver:
                for picture, cells in {"notebook": _readme(), "views": _VIEWS}.items():
                    nbformat.write(notebook(cells), work / f"{picture}.ipynb")  # type: ignore[no-untyped-call]
                    target = IMAGES / f"{picture}-{name}.png"
                    take(driver, address(f"{picture}.ipynb"), target, len(cells))
                    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


def _readme() -> tuple[str, ...]:
    """The README's first cells."""
    readme = (PROJECT / "README.md").read_text()
    return tuple(re.findall(r"^```ipython\n(.*?)\n```", readme, re.MULTILINE | re.DOTALL)[:_CELLS])


def notebook(cells: Sequence[str]) -> object:
    """A notebook of cells that are not yet executed. One that fails does not stop the next ones."""
    made = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    for cell in made.cells:
        cell.metadata["tags"] = ["raises-exception"]
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    return made


@contextlib.contextmanager
def lab(place: Path, work: Path, theme: str) -> Iterator[Callable[[str], str]]:
    """A JupyterLab with settings and a store of its own: the address of a notebook in it, by its name."""
    settings = place / "settings" / "@jupyterlab"
    for extension, values in {
        "apputils-extension/themes": {"theme": theme},
        "apputils-extension/notification": {"fetchNews": "false", "doNotDisturbMode": True},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        path = settings / f"{extension}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    env = {
        **os.environ,
        "NBCONTAINER_HOME": str(place / "store"),
        "HOME": str(place),
        "JUPYTER_RUNTIME_DIR": str(place / "run"),
        "JUPYTERLAB_SETTINGS_DIR": str(place / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(place / "workspaces"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={work}",
        "--KernelManager.transport=ipc",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=env, stderr=log)
    try:
        yield _address(place / "run")
    finally:
        server.terminate()
        server.wait()


def _address(runtime: Path) -> Callable[[str], str]:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for path in runtime.glob("jpserver-*.json"):
            text = path.read_text()
            if text.endswith("}"):  # the server has written all of it
                facts = json.loads(text)
                return lambda name: f"http://127.0.0.1:{facts['port']}/doc/tree/{name}?token={facts['token']}"
        time.sleep(0.05)
    raise TimeoutError("JupyterLab does not start")


@contextlib.contextmanager
def browser(place: Path) -> Iterator[Chrome]:
    """A headless Chromium without connections to the outside."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in (
        "headless=new",
        "no-sandbox",  # it does not start as root with it
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "hide-scrollbars",
        f"force-device-scale-factor={_SCALE}",
        f"window-size={_WIDTH},{_HEIGHT}",
        f"user-data-dir={place / 'chromium'}",
    ):
        options.add_argument(f"--{word}")
    driver = Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield driver
    finally:
        driver.quit()


def take(driver: Chrome, address: str, target: Path, cells: int) -> None:
    """Runs all cells of the notebook at `address`, and writes a picture of them to `target`."""
    driver.get(address)
    wait = WebDriverWait(driver, _PATIENCE)
    wait.until(lambda _: _all(driver, ".jp-CodeCell"))
    wait.until(lambda _: any("Python 3" in one.text for one in _all(driver, ".jp-Toolbar-kernelName")))
    _click(driver, wait, ".lm-MenuBar-itemLabel", "Run")
    _click(driver, wait, ".lm-Menu-itemLabel", "Run All Cells")
    wait.until(lambda _: any(one.text == f"[{cells}]:" for one in _all(driver, ".jp-InputPrompt")))
    driver.execute_script(
        "document.activeElement.blur(); document.querySelector('.jp-Notebook').scrollTop = 0;"
        "document.querySelectorAll('.jp-Collapser, .jp-cell-toolbar').forEach(e => e.style.visibility = 'hidden');"
    )
    time.sleep(1.5)  # the last message of the kernel, and the menu's shadow
    last, panel = _all(driver, ".jp-CodeCell")[cells - 1].rect, _all(driver, ".jp-NotebookPanel")[0].rect
    edges = (panel["x"], panel["y"], panel["x"] + panel["width"], last["y"] + last["height"] + 8)
    whole = target.with_suffix(".whole.png")
    driver.save_screenshot(str(whole))
    with Image.open(whole) as picture:
        cut = picture.convert("RGB").crop(tuple(round(edge * _SCALE) for edge in edges))
        cut.quantize(_COLORS, method=Image.Quantize.MEDIANCUT).save(target, optimize=True)
    whole.unlink()


def _all(driver: Chrome, selector: str) -> list[WebElement]:
    return driver.find_elements(By.CSS_SELECTOR, selector)


def _click(driver: Chrome, wait: WebDriverWait[Chrome], selector: str, text: str) -> None:
    """Clicks the element with that text when it is there."""

    def find(_: Chrome) -> WebElement | Literal[False]:
        return next((element for element in _all(driver, selector) if element.text == text), False)

    wait.until(find).click()


if __name__ == "__main__":
    main()
