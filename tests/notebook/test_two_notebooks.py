"""Two notebooks on one store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.notebook.kernels import Kernel
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELD = "echo up; while [ ! -e /gate/open ]; do usleep 10000; done; echo on; cat /file; echo > /after"


NAMED = {"JPY_SESSION_NAME": "/home/user/lessons/my course.ipynb"}
"""What Jupyter Server gives the kernel of a notebook."""


@pytest.fixture(scope="module")
def pair(short_path: Path, store_path: Path, _containers_work: str) -> Iterator[tuple[Kernel, Kernel]]:
    """Two kernels, with the extension loaded, on the run's store."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    with Kernel(short_path, store_path, **NAMED) as one, Kernel(short_path, store_path) as other:
        for kernel in (one, other):
            kernel.run("%load_ext nbcontainer").good()
        yield one, other


def test_a_running_container_is_busy(pair: tuple[Kernel, Kernel], tmp_path: Path) -> None:
    """What runs in one notebook cannot be moved or removed in the other; it can be seen and committed, and goes on."""
    one, other = pair
    cell = one.send(f"%%container busybox --name busy -v {tmp_path}:/gate\necho kept > /file\n{HELD}").until("up")
    busy = (
        "container 'busy' is running, here or in another notebook; "
        "wait for it, or stop it first: `%container stop busy`",
        "ContainerBusy",
    )
    for code in ("%container rm busy", "%container undo busy", "%container redo busy", "%container rename busy x"):
        error = other.run(code).error
        assert error is not None
        assert (error["evalue"], error["ename"]) == busy
        problem, _, hint = busy[0].partition("; ")
        assert error["traceback"] == [f"\x1b[31mContainerBusy\x1b[0m: {problem}; \x1b[1m{hint}\x1b[0m"]
    assert "busy  busybox  ✓  running" in " ".join(other.run("%container ps").good().result.split()).replace(" ", "  ")
    row = "next(row for row in get_ipython().run_line_magic('container', 'ps') if row.name == 'busy')"
    assert other.run(f"{row}.notebook").good().result == "'my course.ipynb'"
    assert other.run("%container diff busy").good().result.split()[2:] == ["A", "/file", "A", "/gate"]
    other.run("%commit busy so-far").good()
    assert other.run("%%container so-far\ncat /file; ls /after 2>/dev/null || echo not yet").good().stdout == (
        "kept\nnot yet\n"
    )
    waiting = other.send("%%container --name busy\nls /after").until(
        "waiting for the cell that runs in container 'busy'", "stderr"
    )
    (tmp_path / "open").touch()
    assert cell.end().good().stdout == "up\non\nkept\n"
    assert waiting.end().good().stdout == "/after\n"
    other.run("%container rm busy").good()


def test_waiting_for_a_container_can_be_interrupted(pair: tuple[Kernel, Kernel], tmp_path: Path) -> None:
    """A cell that waits for the container of another notebook ends at an interrupt, and leaves that cell alone."""
    one, other = pair
    cell = one.send(f"%%container busybox --name busy -v {tmp_path}:/gate\necho kept > /file\n{HELD}").until("up")
    waiting = other.send("%%container --name busy\necho never").until("waiting for the cell", "stderr")
    other.interrupt()
    assert waiting.end().error is not None
    (tmp_path / "open").touch()
    assert cell.end().good().stdout == "up\non\nkept\n"
    other.run("%container rm busy").good()


def test_a_sweep_leaves_the_others_alone(pair: tuple[Kernel, Kernel], tmp_path: Path) -> None:
    """`prune` in one notebook takes nothing of a cell that runs in the other, nor of what its last cell left."""
    one, other = pair
    one.run("%%container busybox\necho kept > /file").good()
    cell = one.send(f"%%container busybox --name busy -v {tmp_path}:/gate\necho kept > /file\n{HELD}").until("up")
    other.run("%container prune").good()
    (tmp_path / "open").touch()
    assert cell.end().good().stdout == "up\non\nkept\n"
    one.run("%container rm busy").good()
    one.run("%%container busybox\necho kept > /file").good()
    other.run("%container prune").good()
    assert one.run("%container diff").good().result.split() == ["CHANGE", "PATH", "A", "/file"]
    one.run("%commit swept").good()
    other.run("%container prune").good()
    assert one.run("%%container swept\ncat /file").good().stdout == "kept\n"
    other.run("%container rmi swept").good()


def test_stopping_from_the_other_side(pair: tuple[Kernel, Kernel], tmp_path: Path) -> None:
    """`%container stop` in one notebook ends the cell in the other, which fails and keeps what it wrote."""
    one, other = pair
    cell = one.send(f"%%container busybox --name busy -v {tmp_path}:/gate\necho kept > /file\n{HELD}").until("up")
    assert other.run("%container stop busy").good().result == "busy stopped"
    assert cell.end().error is not None
    assert other.run("%container stop busy").good().result == "busy was not running"
    assert other.run("%%container --name busy\ncat /file").good().stdout == "kept\n"
    other.run("%container rm busy").good()


def test_removing_by_force(pair: tuple[Kernel, Kernel], tmp_path: Path) -> None:
    """`rm -f` ends what runs in the other notebook and removes it; its next cell makes a new one."""
    one, other = pair
    cell = one.send(f"%%container busybox --name busy -v {tmp_path}:/gate\necho kept > /file\n{HELD}").until("up")
    other.run("%container rm -f busy").good()
    assert cell.end().error is not None
    assert one.run("%%container busybox --name busy\nls /file 2>/dev/null || echo gone").good().stdout == "gone\n"
    one.run("%container rm busy").good()


def test_the_others_images_are_seen(pair: tuple[Kernel, Kernel]) -> None:
    """An image that one notebook commits is there for the other at once."""
    one, other = pair
    one.run("%%container busybox\necho shared > /file").good()
    one.run("%commit shared").good()
    assert other.run("%%container shared\ncat /file").good().stdout == "shared\n"
    other.run("%container rmi shared").good()
    error = one.run("%%container --pull never shared\ncat /file").error
    assert error is not None
    assert error["ename"] == "ImageNotFound"


def test_the_others_last_container_is_its_own(pair: tuple[Kernel, Kernel]) -> None:
    """What a notebook's last cell left is not listed in another, and cannot be run into there."""
    one, other = pair
    one.run("%%container busybox\necho > /file").good()
    name = one.value("get_ipython().run_line_magic('container', 'inspect').value['name']").strip("'")
    assert name in one.run("%container ps").good().result
    assert name not in other.run("%container ps").good().result
