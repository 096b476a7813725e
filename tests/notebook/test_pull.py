"""Pulling in a real kernel: interrupted by a person, and gone on with."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tests.notebook.shell_cells import wait_for
from tests.running import DEADLINE
from tests.unit.images.fake_registry import Exchange, FakeRegistry
from tests.unit.images.image_files import LayoutFiles, layer, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.kernels import Kernel


def test_an_interrupted_pull_goes_on(kernel: Kernel, store_path: Path) -> None:
    """The stop button ends a pull while the registry is silent, and the next pull asks for the rest alone."""
    data = layer("data", os.urandom(500_000))
    part = store_path / "partial" / sha256(data)[7:]
    waiting = threading.Event()
    silent = True

    def stall(control_directory: Exchange) -> bool:
        if not silent or sha256(data) not in control_directory.path:
            return False
        control_directory.send_response(200)
        control_directory.send_header("Content-Length", str(len(data)))
        control_directory.end_headers()
        control_directory.wfile.write(data[:200_000])
        control_directory.wfile.flush()
        waiting.set()
        control_directory.wait_for_the_end()
        return True

    with FakeRegistry(acts=[stall]).running() as registry:
        files = LayoutFiles()
        registry.put(files, files.image(data, compress=False))
        cell = kernel.send(f"%container pull {registry.address}/x/y")
        assert waiting.wait(DEADLINE)
        wait_for(lambda: part.exists() and part.stat().st_size > 0)
        kernel.interrupt()
        ended = cell.end()
        assert ended.error is not None
        assert (ended.error["ename"], ended.error["evalue"]) == ("CellFailed", "interrupted")
        silent = False
        kernel.run(f"%container pull {registry.address}/x/y").good()
        begin = int(registry.paths(sha256(data))[-1].headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert 0 < begin <= 200_000
