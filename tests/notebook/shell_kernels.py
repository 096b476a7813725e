"""Kernels whose cells run in one container, and an image with the shells of this machine."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from nbcontainer.notebook.kernel.specs import kernelspec
from tests.notebook.kernels import Kernel
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAMS = (
    *("bash", "dash", "cat", "chmod", "cp", "echo", "env", "false", "head", "id", "ln", "ls", "mkdir", "mkfifo", "mv"),
    *("printf", "pwd", "rm", "seq", "setsid", "sleep", "sort", "stty", "tail", "touch", "true", "uname", "wc", "yes"),
)


def rootfs_of_this_machine(target: Path, programs: Iterable[str] = PROGRAMS) -> Path:
    """Writes a root file system tar (host path) of programs of this machine and the libraries they need."""
    files: dict[str, Path] = {}
    for name in programs:
        found = shutil.which(name)
        assert found is not None, name
        files[f"usr/bin/{name}"] = Path(found).resolve()
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for path in re.findall(r"(/\S+) \(0x", listed):
            files[path.lstrip("/").removeprefix("usr/")] = Path(path).resolve()
    with tarfile.open(target, "w") as tar:
        for name, kind in (("bin", "usr/bin"), ("usr/lib", "../lib"), ("usr/lib64", "../lib64")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, kind
            tar.addfile(link)
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(entry, file)
        for name, mode in (("dev", 0o755), ("proc", 0o755), ("sys", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for name, text in (("usr/bin/sh", ""), ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("root/.keep", "")):
            entry = tarfile.TarInfo(name)
            if name == "usr/bin/sh":
                entry.type, entry.linkname = tarfile.SYMTYPE, "dash"
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return target


class ShellKernel(Kernel):
    """A kernel for the container of `%container run` with the words `run`, in a session of one store."""

    def __init__(self, folder: Path, store: Path, run: tuple[str, ...], shell: str = "", **env: str) -> None:
        super().__init__(folder, store, **env)
        specs = Path(tempfile.mkdtemp(prefix="specs-", dir=folder))
        (specs / "ours").mkdir()
        (specs / "ours" / "kernel.json").write_text(json.dumps(kernelspec.document(run, "ours", shell=shell)))
        self.manager = KernelManager(
            kernel_name="ours",
            transport="ipc",
            connection_file=self.manager.connection_file,
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]),
            shutdown_wait_time=DEADLINE,
        )
