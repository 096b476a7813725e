"""`%%container --explain` and `%container explain` in a real IPython."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from nbcontainer.sandbox.handle import ContainerHandle

if TYPE_CHECKING:
    from tests.notebook.conftest import Notebook


@pytest.fixture
def displays(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What cells display, by MIME type."""
    publisher = CapturingDisplayPublisher()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(notebook.shell, "display_pub", publisher)
    return publisher.outputs


def test_a_cell_shows_what_was_done_for_it(notebook: Notebook, displays: list[dict[str, Any]]) -> None:
    """After its output, as a page with a table and a timeline; as text, the calls."""
    assert notebook.good("%%container busybox --explain\necho hello") == "hello\n"
    (shown,) = displays
    assert "<svg" in shown["data"]["text/html"]
    assert "done before the cell" in shown["data"]["text/html"]
    assert 'pivot_root(".", ".")' in shown["data"]["text/plain"].splitlines()


def test_a_trait_sets_the_language(notebook: Notebook, displays: list[dict[str, Any]]) -> None:
    """`%config ContainerMagics.language = 'zh'` is for every cell of the notebook; a line may name another one."""
    notebook.good("%config ContainerMagics.language = 'zh'")
    notebook.good("%%container busybox --explain\ntrue")
    assert "切换根目录" in displays[-1]["data"]["text/html"]
    assert "切换根目录" in notebook.run("%container explain busybox").value._repr_html_()
    assert "switch the root" in notebook.run("%container explain --language en busybox").value._repr_html_()


def test_a_failed_cell_is_explained_too(notebook: Notebook, displays: list[dict[str, Any]]) -> None:
    """The steps were done, whatever the program made of them."""
    notebook.fails("%%container busybox --explain\nexit 3")
    assert any("PivotRoot" in shown["data"].get("text/html", "") for shown in displays)


def test_a_cell_without_the_option_shows_nothing(notebook: Notebook, displays: list[dict[str, Any]]) -> None:
    """Nothing is displayed."""
    notebook.good("%%container busybox\ntrue")
    assert displays == []


def test_notes_that_are_damaged_do_not_end_a_cell(
    notebook: Notebook, displays: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell runs to its end; one line says what is wrong, however much init sends."""
    take = ContainerHandle._take

    def damage(handle: ContainerHandle, message: dict[str, Any]) -> None:
        take(handle, {"explained": "{}"} if "explained" in message else message)

    monkeypatch.setattr(ContainerHandle, "_take", damage)
    done = notebook.run("%%container busybox --explain\necho hello; sleep 0.1; echo bye")
    assert done.stdout == "hello\nbye\n"
    assert done.stderr.count("cannot explain the run") == 1
    assert displays == []
