"""JupyterLab and a browser for tests: a server with settings of its own, a headless Chromium, and a page in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

AGAIN = 5.0
"""Seconds after which a key is pressed again."""

PATIENCE = 3 * DEADLINE
"""Seconds for a server to start, and for a page to show something."""


_PATIENT_COMPLETER = json.dumps({"providerTimeout": 60_000})
"""Milliseconds that JupyterLab waits for completions: by default it ignores what comes after 1 s."""


@contextlib.contextmanager
def lab_server(home: Path, short_path: Path, store: Path) -> Iterator[Callable[[str], str]]:
    """Yield a function: the address of a notebook in `home`, by its name, in a JupyterLab of the test's own."""
    runtime = Path(tempfile.mkdtemp(prefix="lab-", dir=short_path))
    completer = runtime / "settings" / "@jupyterlab" / "completer-extension"
    completer.mkdir(parents=True)
    (completer / "manager.jupyterlab-settings").write_text(_PATIENT_COMPLETER)
    env = {
        **os.environ,
        "NBCONTAINER_HOME": str(store),
        "HOME": str(home),
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
        f"--ServerApp.root_dir={home}",
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
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert server.poll() is None, (runtime / "log").read_text()
        for path in runtime.glob("jpserver-*.json"):
            text = path.read_text()
            if text.endswith("}"):  # the server has written all of it
                facts = json.loads(text)
                return f"http://127.0.0.1:{facts['port']}", str(facts["token"])
        time.sleep(0.05)
    raise AssertionError((runtime / "log").read_text())


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Yield a headless Chromium that connects to nothing outside."""
    require("chromium")
    require("chromedriver")
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
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{word}")
    driver = Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What is seen, clicked and typed in the browser."""

    def __init__(self, browser: Chrome) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        self._wait = WebDriverWait(browser, PATIENCE)

    def shows(self, selector: str, text: str = "") -> bool:
        """Whether an element with that text is there now."""
        return any(text in element.text for element in self.elements(selector))

    def wait_for(self, selector: str, text: str = "") -> None:
        """Waits until one is."""
        self.wait_until(lambda: self.shows(selector, text))

    def wait_until(self, there: Callable[[], bool]) -> None:
        """Waits until `there` is true. The page replaces elements while it changes, so one may vanish on the way."""
        from selenium.common.exceptions import StaleElementReferenceException

        def look(_: object) -> bool:
            try:
                return there()
            except StaleElementReferenceException:
                return False

        self._wait.until(look)

    def click(self, selector: str, text: str) -> None:
        """Clicks it, when it is there."""
        self.wait_for(selector, text)
        next(element for element in self.elements(selector) if text in element.text).click()

    def menu(self, name: str, item: str) -> None:
        """Clicks an item of a menu."""
        self.click(".lm-MenuBar-itemLabel", name)
        self.click(".lm-Menu-itemLabel", item)

    def run_all(self) -> None:
        """Run All Cells, by the menu."""
        self.menu("Run", "Run All Cells")

    def elements(self, selector: str) -> list[WebElement]:
        """Returns the elements that a CSS selector finds."""
        from selenium.webdriver.common.by import By

        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Returns the text that is seen of the first element that a CSS selector finds."""
        return str(self.elements(selector)[0].text)

    def script(self, text: str) -> Any:
        """Returns the value of a script in the page."""
        return self.browser.execute_script(text)

    def type_cell(self, code: str) -> int:
        """Types code into the notebook's last cell, as a person does, without running it; returns its position.

        What another test has left there is removed.
        """
        from selenium.webdriver.common.action_chains import ActionChains

        cells = self.elements(".jp-CodeCell")
        editor = cells[-1].find_element("css selector", ".cm-content")
        self.browser.execute_script("arguments[0].scrollIntoView()", editor)
        editor.click()
        self.clear_cell()
        ActionChains(self.browser).send_keys(code).perform()
        return len(cells) - 1

    def clear_cell(self) -> None:
        """Removes what is typed in the cell that has the focus."""
        from selenium.webdriver.common.keys import Keys

        self.press(Keys.CONTROL, "a")
        self.press(Keys.DELETE)

    def press_until(self, key: str, there: Callable[[], bool]) -> None:
        """Presses a key again and again until `there` is true: one that comes while the page is busy may be lost."""
        pressed = [0.0]

        def look() -> bool:
            if there():
                return True
            if time.monotonic() - pressed[0] > AGAIN:
                self.press(key)
                pressed[0] = time.monotonic()
            return False

        self.wait_until(look)

    def press(self, *keys: str) -> None:
        """Presses keys, one after another; the ones before the last are held."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.browser)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            chain.key_up(key)
        chain.perform()

    def run_cell(self, code: str) -> str:
        """Types code into the last cell and runs it; returns a selector of its output. A new cell follows it."""
        from selenium.webdriver.common.keys import Keys

        at = self.type_cell(code)
        self.press(Keys.SHIFT, Keys.ENTER)
        self.wait_until(lambda: len(self.elements(".jp-CodeCell")) > at + 1)
        return f".jp-CodeCell:nth-of-type({at + 1}) .jp-OutputArea"
