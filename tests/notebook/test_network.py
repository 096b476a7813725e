"""A private network in notebooks: of a cell, of a kernel that keeps it, and of another kernel in a container."""

from __future__ import annotations

import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import engine as engines
from tests.networks import free_port
from tests.notebook.provisioned import ProvisionedKernel
from tests.notebook.shell_kernels import ShellKernel
from tests.requirements import require_private_network
from tests.running import DEADLINE, all_dead, descendants, pidfds

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


@pytest.fixture(autouse=True)
def _private_networks() -> None:
    require_private_network()


def fetch(port: int) -> str:
    """What is served at that port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=DEADLINE) as answer:
        return str(answer.read().decode())


def test_a_cell_has_it_by_its_words_or_by_default(notebook: Notebook) -> None:
    """`--network private`, or `%config ContainerMagics.network` for those that do not say."""
    ask = "ls /sys/class/net | grep -cv '^lo$'"
    assert notebook.good(f"%%container busybox --network private\n{ask}") == "1\n"
    notebook.good("%config ContainerMagics.network = 'private'")
    assert notebook.good(f"%%container busybox\n{ask}") == "1\n"
    assert notebook.good(f"%%container busybox -p {free_port()}:80\n{ask}") == "1\n"
    assert notebook.good("%%container busybox --network none\nls /sys/class/net") == "lo\n"


def test_a_port_in_use_is_one_line(notebook: Notebook) -> None:
    """As every other error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = notebook.fails(f"%%container busybox --network private -p {port}:80\necho run")
    assert said.startswith(f"NetworkUnavailable: cannot publish port {port}/tcp on 127.0.0.1: Address already in use")
    assert "run\n" not in said


def test_a_kernel_keeps_its_network_and_its_port(short_path: Path, store_path: Path, engine: Engine) -> None:
    """From cell to cell, and a new shell has them again; when the kernel is gone, so is the port."""
    port = free_port()
    with ShellKernel(short_path, store_path, ("busybox", "--network", "private", "-p", f"{port}:80")) as kernel:
        kernel.run("mkdir /www; echo one > /www/index.html; httpd -p 80 -h /www").good()
        assert fetch(port) == "one\n"
        kernel.run("echo two > /www/index.html").good()
        assert fetch(port) == "two\n"
        kernel.restart()
        kernel.run("mkdir /www; echo three > /www/index.html; httpd -p 80 -h /www").good()
        assert fetch(port) == "three\n"
        processes = pidfds(descendants(kernel.pid))
    assert all_dead(processes)
    with pytest.raises(OSError, match="refused"):
        fetch(port)


def test_another_kernel_in_a_container_has_it(
    short_path: Path, store_path: Path, shells_tar: Path, engine: Engine
) -> None:
    """By the words of its kernelspec; it talks to the server by its directory as ever."""
    engines.set_default_engine(engine)
    kernel = ProvisionedKernel(short_path, store_path, str(shells_tar), ("--network", "private"))
    try:
        kernel.manager.start_kernel(env=kernel.env)
        kernel.connect()
        assert kernel.value("len(__import__('os').listdir('/sys/class/net'))") == "2"
        assert kernel.value("open('/etc/resolv.conf').readline()") == r"'nameserver 10.0.2.3\n'"
    finally:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)
        engines.set_default_engine(None)
