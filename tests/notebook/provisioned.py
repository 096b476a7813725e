"""IPython's kernel in a container, by the provisioner: with this very Python, shown to it, or a part of `host`."""

from __future__ import annotations

import json
import shlex
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tests.notebook.kernels import Kernel
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterable


def python_volumes() -> list[str]:
    """Volumes with this interpreter, its packages, and the libraries of this machine, whose programs the image has."""
    libraries = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"
    volumes = [f"{libraries}:{libraries.removeprefix('/usr')}:ro"]
    volumes += [f"{place}:{place}:ro" for place in python_places()]
    return [word for volume in volumes for word in ("-v", volume)]


def python_places() -> list[str]:
    """The directories (host) of this interpreter's installation and of its environment."""
    return sorted({str(Path(sys.base_prefix).resolve()), str(Path(sys.prefix).resolve())})


class ProvisionedKernel(Kernel):
    """An ipykernel in a container of `image`, with more words of `run` and more of the provisioner's settings.

    `python` is the interpreter inside; this one's is shown to the image, unless that has it, as `host` does.
    """

    def __init__(
        self,
        folder: Path,
        store: Path,
        image: str,
        words: Iterable[str] = (),
        *,
        notebooks: str = "",
        python: str = sys.executable,
        **env: str,
    ) -> None:
        super().__init__(folder, store, **env)
        specs = Path(tempfile.mkdtemp(prefix="specs-", dir=folder))
        (specs / "inside").mkdir()
        shown = python_volumes() if python == sys.executable and image != "host" else []
        run = shlex.join([image, *shown, *words])
        spec = {
            "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "inside",
            "language": "python",
            "env": {"IPYTHONDIR": "/tmp/ipython", "FROM_SPEC": "yes"},
            "metadata": {
                "kernel_provisioner": {
                    "provisioner_name": "nbcontainer",
                    "config": {"run": run, "notebooks": notebooks},
                }
            },
        }
        (specs / "inside" / "kernel.json").write_text(json.dumps(spec))
        self.manager = KernelManager(
            kernel_name="inside",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]),
            shutdown_wait_time=DEADLINE,
        )
