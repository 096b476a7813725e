"""Cells that a person types in JupyterLab: what streams, completes, is shown, is interrupted, and cannot run."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import pytest

from tests.notebook import science
from tests.notebook.browsers import Page, chromium, lab_server
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser

RUNS = "window.ran = 1"
EVIL = f'<p>harmless</p><script>{RUNS}</script><img src="x" onerror="{RUNS}">'
"""A page whose script sets a variable of the notebook's page, in two ways."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the notebook (host), with a picture, a table and a hostile page."""
    require("pillow", available=importlib.util.find_spec("PIL") is not None)
    from PIL import Image

    path = tmp_path_factory.mktemp("lab")
    Image.new("RGB", (40, 20), "teal").save(path / "picture.png")
    (path / "archives").mkdir()
    (path / "table.csv").write_text("city,rain\nLa Paz,15\n")
    (path / "evil.html").write_text(EVIL)
    (path / "typed.ipynb").write_text(
        json.dumps(science.notebook("python3", ["%load_ext nbcontainer", "%%container busybox\ntrue"]))
    )
    return path


@pytest.fixture(scope="module")
def page(folder: Path, short_path: Path, store_path: Path, _containers_work: str) -> Iterator[Page]:
    """A notebook in JupyterLab, in which the extension is loaded and has the image busybox."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    for name in ("jupyterlab", "selenium"):
        require(name, available=importlib.util.find_spec(name) is not None)
    with lab_server(folder, short_path, store_path) as address, chromium(folder / "chromium") as driver:
        opened = Page(driver)
        driver.get(address("typed.ipynb"))
        opened.wait_for(".jp-StatusBar-Widget", "Idle")
        opened.run_all()
        opened.menu("Run", "Run Selected Cell and Insert Below")
        opened.run_cell("print('lo' + 'aded')")
        opened.wait_for(".jp-OutputArea", "loaded")
        yield opened


def test_output_appears_while_the_cell_runs(page: Page, folder: Path) -> None:
    """A line is in the page before the cell can continue; the next one follows."""
    wait = "while [ ! -e /work/open ]; do usleep 10000; done"
    cell = page.run_cell(f"%%container busybox -v .:/work:ro\necho be''fore; {wait}; echo af''ter")
    page.wait_for(cell, "before")
    assert not page.shows(cell, "after")
    (folder / "open").touch()
    page.wait_for(cell, "after")


def answer(page: Page, cell: str, text: str, *, hidden: bool = False) -> None:
    """Types an answer into a cell's input box, which hides it or does not, and Enter."""
    from selenium.webdriver.common.keys import Keys

    box = f"{cell} input.jp-Stdin-input"
    page.wait_for(f'{box}[type="password"]' if hidden else f'{box}:not([type="password"])')
    page.wait_until(lambda: bool(page.script(f"return document.activeElement === document.querySelector('{box}')")))
    page.press(text)
    page.press(Keys.ENTER)


def test_a_prompt_is_answered_in_the_page(page: Page) -> None:
    """`read` in a cell with `-i` opens an input box below the prompt; the answer arrives, and is in the page once."""
    cell = page.run_cell("%%container busybox -i\nprintf 'name? '; read name; echo \"hello, ${name}\"")
    page.wait_for(cell, "name?")
    answer(page, cell, "Ada")
    page.wait_for(cell, "hello, Ada")
    page.wait_until(lambda: page.elements(f"{cell} .jp-Stdin-input") == [])
    assert page.text(cell).split() == ["name?", "Ada", "hello,", "Ada"]


def test_a_secret_is_hidden_in_the_page(page: Page) -> None:
    """With the terminal's echo off the input box is that of a password, and the answer is nowhere in the page."""
    cell = page.run_cell('%%container busybox -i\nread -s x; read y; echo "${#x} $y"')
    answer(page, cell, "swordfish", hidden=True)
    answer(page, cell, "seen")
    page.wait_for(cell, "9 seen")
    assert "swordfish" not in page.script("return document.body.innerText")


def test_the_magic_line_completes(page: Page) -> None:
    """The tab key offers verbs, with what they begin with."""
    from selenium.webdriver.common.keys import Keys

    at = page.type_cell("%container im")
    page.press_until(Keys.TAB, lambda: page.shows(".jp-Completer-item", "images"))
    assert page.shows(".jp-Completer-item", "import")
    page.press(Keys.ENTER)
    page.wait_for(f".jp-CodeCell:nth-of-type({at + 1}) .cm-content", "%container images")
    page.press(Keys.SHIFT, Keys.ENTER)
    page.wait_for(f".jp-CodeCell:nth-of-type({at + 1}) .nbcontainer td", "busybox")


@pytest.mark.parametrize(
    ("typed", "proposed", "line"),
    [
        ("%%container busybox --mem", "--memory", "%%container busybox --memory"),
        ("%%container busybox --network pri", "private", "%%container busybox --network private"),
        ("%%container busyb", "busybox", "%%container busybox"),
        ("%%container busybox -v ./pict", "./picture.png", "%%container busybox -v ./picture.png"),
        ("%container load ./arch", "./archives/", "%container load ./archives/"),
        ("%%container busybox /bin/wat", "/bin/watch", "%%container busybox /bin/watch"),
    ],
)
def test_an_argument_completes(page: Page, typed: str, proposed: str, line: str) -> None:
    """The tab key completes options, their choices, images, paths of the host and paths of the image."""
    from selenium.webdriver.common.keys import Keys

    at = page.type_cell(typed)
    try:
        editor = f".jp-CodeCell:nth-of-type({at + 1}) .cm-content"
        page.press_until(Keys.TAB, lambda: page.shows(".jp-Completer-item", proposed) or page.shows(editor, line))
        if not page.shows(editor, line):
            page.press(Keys.ENTER)
        page.wait_for(editor, line)
    finally:
        page.clear_cell()


def test_a_picture_and_a_table_are_shown(page: Page) -> None:
    """With `--show`, what a cell wrote to /out is in its output: a PNG as a picture, a CSV as a table."""
    cell = page.run_cell("%%container busybox -v .:/work:ro --show\ncp /work/picture.png /work/table.csv /out")
    page.wait_for(f'{cell} img[src^="data:image/png"]')
    page.wait_for(f"{cell} table td", "La Paz")


def test_a_script_of_a_container_does_not_run(page: Page) -> None:
    """HTML that a cell shows has no script and no handler of an event, until its user trusts it."""
    words = "%%container busybox -v .:/work:ro --show"
    cell = page.run_cell(f"{words}\ncp /work/evil.html /out")
    page.wait_for(cell, "harmless")
    assert page.elements(f"{cell} script, {cell} [onerror]") == []
    assert page.script("return window.ran") is None
    page.run_cell(f"{words} --trust-output\ncp /work/evil.html /out")
    page.wait_until(lambda: page.script("return window.ran") == 1)


def test_the_stop_button_ends_a_cell(page: Page) -> None:
    """An interrupt from the menu ends what runs in the container: one line, without a traceback."""
    cell = page.run_cell("%%container busybox\necho wait''ing; sleep 1000")
    page.wait_for(cell, "waiting")
    page.menu("Kernel", "Interrupt Kernel")
    page.wait_for(cell, "CellFailed: interrupted")
    assert not page.shows(cell, "Traceback")


def test_a_flood_is_below_the_limit_of_the_server(page: Page) -> None:
    """Of fifty megabytes, beginning and end are in the page, and the server has dropped nothing."""
    cell = page.run_cell("%%container busybox\nyes 0123456789 | head -c 50000000; echo e''nd")
    page.wait_for(cell, "bytes of output are in")
    assert page.shows(cell, "bytes of output are not shown")
    assert page.shows(cell, "end")
    assert not page.shows(cell, "data rate exceeded")
    cell = page.run_cell("%%container busybox\necho ne''xt")
    page.wait_for(cell, "next")


def test_tables_are_aligned_to_the_left(page: Page) -> None:
    """JupyterLab's own rule for tables, which aligns texts to the right, does not reach what verbs show."""
    page.wait_for(page.run_cell("%%container busybox --name aligned\necho do''ne"), "done")
    cell = page.run_cell("%container ps")
    page.wait_for(f"{cell} .nbcontainer td", "aligned")
    aligned = f"return [...document.querySelectorAll('{cell} td')].map(one => getComputedStyle(one).textAlign)"
    assert set(page.script(aligned)) == {"left"}


def test_dollars_of_a_command_are_not_a_formula(page: Page) -> None:
    """A view shows a command between two dollars as it is; the page makes a formula of it elsewhere."""
    command = "for i in $(seq 3); do echo $i > /f$i; done"
    page.wait_for(page.run_cell(f"%%container busybox --name dollars\n{command}; echo do''ne"), "done")
    cell = page.run_cell("%container history dollars")
    formula = page.run_cell("from IPython.display import HTML; HTML('<p>a $x$ b</p>')")
    page.wait_for(f"{formula} mjx-container")
    page.wait_for(f"{cell} td", command)
    assert page.elements(f"{cell} mjx-container") == []


def test_a_directory_of_a_diff_opens(page: Page) -> None:
    """Many changes are closed directories with counts; a click shows what is in one."""
    cell = page.run_cell("%%container busybox\nmkdir /new; for i in $(seq 60); do echo $i > /new/file$i; done")
    cell = page.run_cell("%container diff")
    page.wait_for(f"{cell} summary", "60 added")
    assert not page.shows(f"{cell} li", "file60")
    page.click(f"{cell} summary", "new/")
    page.wait_for(f"{cell} li", "file60")


def test_a_failed_cell_has_one_line_and_a_footer(page: Page) -> None:
    """The error has the script's line that failed; the footer has the exit code, the time and the memory."""
    cell = page.run_cell("%%container busybox --footer\ntrue\nno-such-program --now")
    page.wait_for(cell, "CellFailed: exit code 127 at line 2: no-such-program --now")
    page.wait_for(f"{cell} .nbcontainer", "✗ exit code 127")
    assert not page.shows(cell, "Traceback")
