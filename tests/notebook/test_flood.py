"""Floods of output, in a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.notebook.kernels import Kernel

GIGABYTE = 1 << 30


def high_water(pid: int) -> int:
    """Bytes of the most memory that a process had (VmHWM in proc_pid_status(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine takes its time
def test_a_gigabyte_leaves_the_memory_flat(kernel: Kernel, tmp_path: Path) -> None:
    """A gigabyte of output takes no more memory of the kernel than the page shows; the whole of it is in the file."""
    kernel.run("%%container busybox\nyes | head -c 8000000").good()
    before = high_water(kernel.pid)
    block = b"0123456789abcde\n" * (1 << 20)
    (tmp_path / "block").write_bytes(block)
    body = f"for i in $(seq {GIGABYTE // len(block)}); do cat /data/block; done"
    cell = kernel.send(f"%%container busybox -v {tmp_path}:/data:ro\n{body}").end(seconds=500).good()
    assert high_water(kernel.pid) - before < 16 << 20
    assert len(cell.stdout) < 5 << 20
    assert f"all {GIGABYTE} bytes of output are in " in cell.stdout
    path = Path(cell.stdout.split(" bytes of output are in ")[1].split(" until ")[0])
    assert path.stat().st_size == GIGABYTE
    with path.open("rb") as file:
        assert all(file.read(len(block)) == block for _ in range(GIGABYTE // len(block)))


def test_a_flood_can_be_interrupted(shared_kernel: Kernel) -> None:
    """The stop button ends a cell that floods the page without an end."""
    cell = shared_kernel.send("%%container busybox\nyes").until("y\ny\n")
    shared_kernel.interrupt()
    cell.end()
    assert cell.error is not None
    assert cell.error["evalue"] == "interrupted"


def test_the_file_goes_with_the_notebook(kernel: Kernel) -> None:
    """The whole of a flood is there while the notebook is, and its disk is free again afterwards."""
    cell = kernel.run("%%container busybox\nyes | head -c 6000000").good()
    path = Path(cell.stdout.split(" bytes of output are in ")[1].split(" until ")[0])
    assert path.stat().st_size == 6_000_000
    kernel.run("%unload_ext nbcontainer").good()
    assert not path.exists()


def test_a_long_log_is_limited_on_the_page(shared_kernel: Kernel) -> None:
    """A page shows the beginning and the end of a log, and how to have the rest; the value of `logs` is the whole."""
    shared_kernel.run("%%container busybox --bg --name flooded\nyes | head -c 6000000").good()
    shared_kernel.run("%container wait flooded").good()
    shared_kernel.run("flood = %container logs flooded").good()
    shown = shared_kernel.run("flood").good().result
    assert len(shown) < 3_000_000
    assert shown.startswith("y\ny\n")
    assert "\n… all 6000000 bytes of output are in the log: choose a part with --tail or --since, or run" in shown
    assert "`nbcontainer logs flooded > FILE`" in shown
    assert shared_kernel.value("len(str(flood))") == "5999999"
    followed = shared_kernel.run("%container logs -f flooded").good().stdout
    assert len(followed) < 3_000_000
    assert followed.endswith(shown.rpartition("\n")[2] + "\n")
    shared_kernel.run("%container rm flooded").good()


def test_a_log_has_the_limit_of_the_notebook(shared_kernel: Kernel) -> None:
    """`output_limit` is for the logs of jobs, too."""
    shared_kernel.run("%%container busybox --bg --name short\nseq 2000").good()
    shared_kernel.run("%container wait short").good()
    shared_kernel.run("%config ContainerMagics.output_limit = 100").good()
    assert shared_kernel.run("%container logs short").good().result.startswith("1\n2\n")
    assert " bytes of output are not shown …\n" in shared_kernel.run("%container logs -f short").good().stdout
    shared_kernel.run("get_ipython().magics_manager.registry['ContainerMagics'].output_limit = 1_200_000").good()
    assert shared_kernel.run("%container logs short").good().result.endswith("\n1999\n2000")
    shared_kernel.run("%container rm short").good()
