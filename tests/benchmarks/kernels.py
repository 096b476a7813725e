"""How long the kernel takes to start, and for a cell, beside others: `python -m tests.benchmarks.kernels`.

A start is from `start_kernel` to the reply to the first cell; a round trip is a cell that does nothing, from its
request to its reply and the kernel being idle. bash_kernel is on PyPI; a kernel that is not installed is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import KernelManager

from nbcontainer.containers.engine import default_engine
from nbcontainer.notebook.kernel.specs import kernelspec
from tests.benchmarks.measuring import Subject, interleave, machine, report
from tests.notebook.provisioned import python_volumes
from tests.notebook.shell_kernels import rootfs_of_this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNELSPEC = Path(__file__).parents[2] / "kernelspec"

KERNELS = {"nbcontainer": "true", "bash": "true", "python3": "pass", "python3-inside": "pass"}
"""The kernels by name, and what does nothing in each. The last is ipykernel again, launched by the provisioner."""

PATIENCE = 60.0  # seconds


def start(name: str, code: str) -> tuple[KernelManager, Any]:
    """A kernel that has answered its first cell, and its client."""
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    run(client, code)
    return manager, client


def run(client: Any, code: str) -> None:
    """One cell, until the kernel is idle again."""
    client.execute_interactive(code, timeout=PATIENCE, output_hook=lambda _: None)


def stop(manager: KernelManager, client: Any) -> None:
    """Ends a kernel."""
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def kernelspecs() -> Iterator[None]:
    """Has Jupyter find this working copy's kernel, with a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "kernels" / "nbcontainer"
        place.mkdir(parents=True)
        (place / "kernel.json").write_text((KERNELSPEC / "kernel.json").read_text())
        inside = place.with_name("python3-inside")
        inside.mkdir()
        image = rootfs_of_this_machine(Path(folder) / "image.tar")
        spec = kernelspec.document_inside("python3", [str(image), *python_volumes()], "inside")
        spec["argv"][0] = sys.executable
        (inside / "kernel.json").write_text(json.dumps(spec))
        os.environ["JUPYTER_PATH"] = folder
        os.environ["NBCONTAINER_HOME"] = f"{folder}/store"
        yield


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--starts", type=int, default=8, help="rounds of starts")
    options.add_argument("--cells", type=int, default=100, help="rounds of cells")
    chosen = options.parse_args()
    print(machine())
    with kernelspecs(), contextlib.ExitStack() as stack:
        found = {}
        for name, code in KERNELS.items():
            try:
                KernelSpecManager().get_kernel_spec(name)
                found[name] = code
            except NoSuchKernel:
                print(f"{name} is not installed")

        def started(name: str, code: str) -> None:
            running[name] = start(name, code)

        def ended(name: str) -> None:
            if name in running:
                stop(*running.pop(name))

        def cell(name: str, code: str) -> None:
            run(running[name][1], code)

        running: dict[str, tuple[KernelManager, Any]] = {}
        subjects = [Subject(name, partial(started, name, code), partial(ended, name)) for name, code in found.items()]
        times = interleave(subjects, chosen.starts, pause=0.5)
        for name in found:
            stack.callback(ended, name)
        print(f"\nfrom start to the first reply, {chosen.starts} rounds")
        print(report(times, "nbcontainer"))
        if {"python3", "python3-inside"} <= found.keys():
            print(f"\n{report({name: times[name] for name in ('python3', 'python3-inside')}, 'python3')}")
        subjects = [Subject(name, partial(cell, name, code)) for name, code in found.items()]
        times = interleave(subjects, chosen.cells, pause=0.02)
        print(f"\na cell's round trip, {chosen.cells} rounds")
        print(report(times, "nbcontainer"))
        stack.callback(default_engine().close)


if __name__ == "__main__":
    main()
