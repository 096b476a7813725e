"""Pulling in a real kernel: interrupted by a person, and gone on with."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.notebook.shell_cells import wait_for
from tests.notebook.shell_kernels import ShellKernel
from tests.requirements import require
from tests.running import DEADLINE
from tests.unit.images.fake_registry import Exchange, FakeRegistry
from tests.unit.images.image_files import LayoutFiles, layer, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.kernels import Kernel
    from tests.unit.images.fake_registry import Act


def silent_at_first(data: bytes, waiting: threading.Event, silent: threading.Event) -> Act:
    """A registry's act: while `silent` is set, it sends a part of a blob, sets `waiting`, and waits."""

    def stall(exchange: Exchange) -> bool:
        if not silent.is_set() or sha256(data) not in exchange.path:
            return False
        exchange.send_response(200)
        exchange.send_header("Content-Length", str(len(data)))
        exchange.end_headers()
        exchange.wfile.write(data[:200_000])
        exchange.wfile.flush()
        waiting.set()
        exchange.wait_for_the_end()
        return True

    return stall


def require_containers(request: pytest.FixtureRequest) -> None:
    """Skips a test where this machine cannot make the namespaces of containers."""
    problem = request.getfixturevalue("_containers_work")
    require("namespaces", available=not problem, why=problem)


@pytest.mark.parametrize(
    "how", ["a magic", "a magic of a container's kernel", "the first cell of a container's kernel"]
)
def test_an_interrupted_pull_goes_on(
    request: pytest.FixtureRequest, short_path: Path, store_path: Path, how: str
) -> None:
    """The stop button ends a pull while the registry is silent, and the next pull asks for the rest alone."""
    data = layer("data", os.urandom(500_000))
    part = store_path / "partial" / sha256(data)[7:]
    waiting, silent = threading.Event(), threading.Event()
    silent.set()
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(FakeRegistry(acts=[silent_at_first(data, waiting, silent)]).running())
        files = LayoutFiles()
        registry.put(files, files.image(data, compress=False))
        code = f"%container pull {registry.address}/x/y"
        if how == "the first cell of a container's kernel":
            require_containers(request)
            kernel: Kernel = stack.enter_context(ShellKernel(short_path, store_path, (f"{registry.address}/x/y",)))
            code = "echo started"
        else:
            kernel = request.getfixturevalue("kernel" if how == "a magic" else "shell_kernel")
        cell = kernel.send(code)
        assert waiting.wait(DEADLINE)
        wait_for(lambda: part.exists() and part.stat().st_size > 0)
        kernel.interrupt()
        ended = cell.end()
        assert ended.error is not None
        assert (ended.error["ename"], ended.error["evalue"]) == ("CellFailed", "interrupted")
        silent.clear()
        pulled = kernel.run(code)
        if how == "the first cell of a container's kernel":
            assert pulled.error is not None
            assert pulled.error["evalue"].startswith("cannot run /bin/sh: No such file or directory")
        else:
            pulled.good()
        begin = int(registry.paths(sha256(data))[-1].headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert 0 < begin <= 200_000


def test_completion_pulls_no_image(request: pytest.FixtureRequest, short_path: Path, store_path: Path) -> None:
    """Before the first cell, a press of Tab asks no registry, and has an answer at once."""
    require_containers(request)
    with FakeRegistry().running() as registry, ShellKernel(short_path, store_path, (f"{registry.address}/x/y",)) as own:
        reply = own.client.complete("l", 1, reply=True, timeout=DEADLINE)
        assert reply["content"]["status"] == "ok"
        assert not registry.asked


def test_a_magic_before_the_first_cell_has_the_container(
    request: pytest.FixtureRequest, short_path: Path, store_path: Path
) -> None:
    """It pulls the image, and is about the container that the cells will run in."""
    require_containers(request)
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(FakeRegistry().running())
        files = LayoutFiles()
        registry.put(files, files.image(layer("data", b"data")))
        own = stack.enter_context(ShellKernel(short_path, store_path, (f"{registry.address}/x/y",)))
        own.run("%container history").good()
        assert registry.asked
