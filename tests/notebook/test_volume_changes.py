"""`%container changes`, `apply` and `discard` in a notebook: what is shown, and what a wrong use says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import lookup as containers
from nbcontainer.errors import ContainerNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook

CELL = "%%container busybox{name} -v {data}:/data:cow\ncd /data; echo changed > a; rm b; echo new > c"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of the host's with two files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(f"{name} of the host\n")
    return folder


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A name for a container, which is removed at the end."""
    chosen = f"cow-{os.urandom(4).hex()}"
    yield chosen
    try:
        containers.get(engine, chosen).remove()
    except ContainerNotFound:
        return


def shown(notebook: Notebook, verb: str) -> tuple[str, str]:
    """What a notebook shows of a verb: as text and as HTML."""
    ran = notebook.run(f"%container {verb}")
    assert ran.error is None, ran
    formatter = notebook.shell.display_formatter
    assert formatter is not None
    formats, _ = formatter.format(ran.value)  # type: ignore[no-untyped-call]
    return formats["text/plain"], formats.get("text/html", formats["text/plain"])  # a note is text alone


def files(data: Path) -> dict[str, str]:
    """The files of the directory."""
    return {path.name: path.read_text() for path in data.iterdir()}


def test_changes_are_shown_applied_and_shown_no_more(notebook: Notebook, data: Path, name: str) -> None:
    """`changes` lists paths and lines, `apply` says how many paths it wrote where, and asks nothing."""
    notebook.good(CELL.format(name=f" --name {name}", data=data))
    assert files(data) == {"a": "a of the host\n", "b": "b of the host\n"}
    text, html = shown(notebook, f"changes {name} --text")
    for kind, path in (("C", "a"), ("D", "b"), ("A", "c")):
        assert f"{kind}       /data/{path}" in text
        assert f"/data/{path}" in html
    assert "-a of the host\n+changed" in text
    text, html = shown(notebook, f"apply {name}")
    assert text == f"wrote 3 paths to {data}"
    assert text in html
    assert files(data) == {"a": "changed\n", "c": "new\n"}
    assert shown(notebook, f"changes {name}")[0] == "no changes"


def test_discarded_changes_come_back_by_undo(notebook: Notebook, data: Path, name: str) -> None:
    """`discard` says how to bring the changes back, and `%undo` does that."""
    notebook.good(CELL.format(name=f" --name {name}", data=data))
    assert shown(notebook, f"discard {name}")[0] == "discarded the changes to 1 volume; `undo` brings them back"
    assert shown(notebook, f"changes {name}")[0] == "no changes"
    assert shown(notebook, f"undo {name}")[0] == f"{name}: undid: discard /data"
    assert "/data/c" in shown(notebook, f"changes {name}")[0]
    assert files(data) == {"a": "a of the host\n", "b": "b of the host\n"}


def test_without_a_name_the_verbs_take_the_last_cell(notebook: Notebook, data: Path) -> None:
    """A cell without `--name` has a line about its changes; `apply` alone writes them."""
    ran = notebook.run(CELL.format(name="", data=data))
    assert ran.error is None
    assert "apply" in ran.stdout + ran.stderr
    assert shown(notebook, "apply")[0] == f"wrote 3 paths to {data}"
    assert files(data) == {"a": "changed\n", "c": "new\n"}


def test_a_conflict_is_one_line_and_force_overwrites(notebook: Notebook, data: Path, name: str) -> None:
    """The line names the path, the reason and both next steps; nothing is written before `--force`."""
    notebook.good(CELL.format(name=f" --name {name}", data=data))
    (data / "a").write_text("changed by the host\n")
    line = notebook.fails(f"%container apply {name}")
    assert line == (
        f"ChangesRefused: nothing was applied to {data}: '{data}/a' (changed on the host meanwhile); "
        f"see `%container changes {name} --text`; `apply {name} --force` overwrites what the host changed"
    )
    assert files(data) == {"a": "changed by the host\n", "b": "b of the host\n"}
    assert shown(notebook, f"apply {name} --force")[0] == f"wrote 3 paths to {data}"
    assert files(data) == {"a": "changed\n", "c": "new\n"}


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        (
            "apply NAME",
            "ChangesRefused: nothing to apply: container 'NAME' has had no copy-on-write volume; run its next ",
        ),
        (
            "discard NAME",
            "ChangesRefused: nothing to discard: container 'NAME' has had no copy-on-write volume; run its ",
        ),
        ("apply nope", "ContainerNotFound: no such container: 'nope'; list containers with `%container ps`"),
        ("apply NAME@1", "UsageError: expected a container, and 'NAME@1' is a state of one; write 'NAME'; "),
        ("apply NAME NAME", "UsageError: apply: unexpected argument 'NAME'; write `apply [OPTIONS] [CONTAINER]`"),
        ("apply --text", "UsageError: apply: unknown option '--text'; the options are "),
        ("discard --force", "UsageError: discard: unknown option '--force'; the options are "),
        ("changes a b", "UsageError: changes: unexpected argument 'b'; write `changes [OPTIONS] [CONTAINER]`"),
    ],
)
def test_a_wrong_use_is_one_line(notebook: Notebook, name: str, verb: str, line: str) -> None:
    """Each mistake has its problem and the next step in one line without a traceback."""
    notebook.good(f"%%container busybox --name {name}\ntrue")
    assert notebook.fails(f"%container {verb.replace('NAME', name)}").startswith(line.replace("NAME", name))
