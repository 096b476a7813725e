"""`map` over Dask workers in network namespaces of their own: no lifeline reaches them, and they lack the image."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import Result
from tests.requirements import require
from tests.running import all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


SUBNET = f"10.231.{os.getpid() % 250 + 1}"
"""Not that of an earlier run, which may have been killed before it removed its bridge."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def bridge(name: str) -> Iterator[str]:
    """A bridge of this machine, since Dask's workers connect to each other; its address."""
    ip("link", "add", name, "type", "bridge")
    try:
        ip("addr", "add", f"{SUBNET}.1/24", "dev", name)
        ip("link", "set", name, "up")
        yield f"{SUBNET}.1"
    finally:
        ip("link", "del", name)


@contextlib.contextmanager
def network(number: int, prefix: str) -> Iterator[str]:
    """A network namespace with a link to the bridge `prefix`; its name."""
    name, link = f"{prefix}{number}", f"{prefix}h{number}"
    ip("netns", "add", name)
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", link, "master", prefix, "up")
        ip("-n", name, "addr", "add", f"{SUBNET}.{number + 1}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


@contextlib.contextmanager
def worker(namespace: str, address: str, place: Path) -> Iterator[None]:
    """A worker with a store of its own."""
    words = ["ip", "netns", "exec", namespace, sys.executable, "-m", "distributed.cli.dask_worker", address]
    more = ["--nthreads", "2", "--no-dashboard", "--local-directory", str(place)]
    environment = os.environ | {"NBCONTAINER_HOME": str(place / "store")}
    process = subprocess.Popen([*words, *more], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.usefixtures("default")
def test_workers_in_other_networks(tmp_path: Path) -> None:
    """Each of two workers gets a committed image over the network, and `close` ends what runs there."""
    require("root", available=os.geteuid() == 0, why="only root makes network namespaces with links")
    require("ip", why="iproute2 is not installed")
    prefix = f"nb{os.getpid() % 10000}"
    with nbcontainer.create("busybox") as box:
        box.run(script="echo made > /made")
        box.commit("made-there")
    with contextlib.ExitStack() as stack:
        stack.callback(nbcontainer.remove_image, "made-there")
        here = stack.enter_context(bridge(prefix))
        made = [stack.enter_context(network(number, prefix)) for number in (1, 2)]
        cluster = distributed.LocalCluster(n_workers=0, host="0.0.0.0", dashboard_address=None, silence_logs=50)
        stack.enter_context(cluster)
        port = cluster.scheduler_address.rpartition(":")[2]
        for number, name in enumerate(made):
            (tmp_path / str(number)).mkdir()
            stack.enter_context(worker(name, f"tcp://{here}:{port}", tmp_path / str(number)))
        client: Any = stack.enter_context(distributed.Client(cluster))
        client.wait_for_workers(2, timeout=60)
        executor = client.get_executor()
        found = list(nbcontainer.map("made-there", ["cat", "/made", "-"], map(str, range(20)), executor=executor))
        assert [one.text for one in found if isinstance(one, Result)] == [f"made\n{number}" for number in range(20)]
        mark = marker()
        with nbcontainer.map("made-there", ["sleep", mark], ["x"] * 4, executor=executor):
            fds = pidfds(appear(mark, 4))
        assert all_dead(fds)
