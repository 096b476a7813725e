"""A machine inside this one: Debian's kernel in qemu, with this machine's files as its own, read-only."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nbcontainer.images.builtin.busybox import static_busybox
from tests.requirements import require
from tests.second_kernel.kernel import unpack_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSORS, MEMORY, DISK = 2, "3G", 4 << 30
"""What the machine has; its disk is a sparse file of as many bytes."""

SECONDS = 1800
"""After which a machine that has not ended by itself hangs."""

MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk",
    "fuse", "virtiofs", "overlay",
)  # fmt: skip
"""The kernel's modules that it needs, each after those that it depends on (depmod.d(5) is not there to say)."""

_COMMAND_LINE = "console=ttyS0 quiet panic=-1 edd=off mitigations=off no_timer_check rcupdate.rcu_expedited=1"
"""In software the timer may be too slow for the check that it works, which is a panic (kernel-parameters.txt).

Who makes and ends namespaces waits for grace periods of RCU: expedited, a test takes a third less.
"""

_PROCESSORS = {"tcg": "Nehalem", "kvm": "host"}
"""Qemu's processor for each accelerator: in software one is slower the more it has (vectors, long copies by bytes)."""

_DAEMONS = "/usr/libexec:/usr/lib/qemu"


@dataclass(frozen=True)
class Ended:
    """A machine that has ended: what it wrote on its console and, as the raw disk it is, its results (host)."""

    console: str
    results: Path


def accelerator() -> str:
    """`kvm` where there is one with help of the processor, else `tcg`, which is in software and thirty times as slow.

    NBCONTAINER_TEST_ACCELERATOR overrides it.
    """
    flags = Path("/proc/cpuinfo").read_text().split()
    helped = os.access("/dev/kvm", os.W_OK) and bool({"vmx", "svm"} & set(flags))
    return os.environ.get("NBCONTAINER_TEST_ACCELERATOR", "kvm" if helped else "tcg")


def run_machine(folder: Path, program: list[str], seconds: float = SECONDS) -> Ended:
    """Boots a machine that runs `program` (guest) as its first process, and waits until it ends, or hangs: `seconds`.

    `folder` (host) gets its files. The test is skipped where what it needs is missing.
    """
    for name in ("qemu-system-x86_64", "mkfs.ext4", "unshare", "dpkg"):
        require(name)
    require("busybox", available=static_busybox() is not None, why="there is no static busybox")
    daemon = shutil.which("virtiofsd", path=_DAEMONS)
    require("virtiofsd", available=daemon is not None, why="virtiofsd is not installed")
    kernel = unpack_kernel(folder, MODULES)
    initramfs = _initramfs(folder, kernel.modules, program)
    results, storage, console = folder / "results", folder / "storage", folder / "console"
    for path, size in ((results, 64 << 20), (storage, DISK)):
        path.touch()
        os.truncate(path, size)
    subprocess.run(["mkfs.ext4", "-q", storage], check=True)
    with console.open("wb") as output, _files(str(daemon), folder / "files", output) as files:
        words: list[str | Path] = ["qemu-system-x86_64", *_hardware(files, (results, storage)), "-kernel", kernel.image]
        words += ["-initrd", initramfs, "-append", _COMMAND_LINE]
        with contextlib.suppress(subprocess.TimeoutExpired):  # the results tell: there are none
            nothing = subprocess.DEVNULL
            subprocess.run(words, stdin=nothing, stdout=output, stderr=output, timeout=seconds, check=False)
    storage.unlink()
    return Ended(console.read_text(errors="replace"), results)


def _hardware(files: Path, disks: tuple[Path, ...]) -> Iterator[str | Path]:
    """Qemu's words for the machine: a file system by its daemon's socket, disks, and a console on standard output."""
    accel = accelerator()
    yield from ("-accel", accel, "-cpu", _PROCESSORS[accel], "-smp", str(PROCESSORS), "-m", MEMORY)
    yield from ("-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on")  # the daemon's too
    yield from ("-machine", "q35,memory-backend=memory")
    yield from ("-chardev", f"socket,id=files,path={files}", "-device", "vhost-user-fs-pci,chardev=files,tag=host")
    for disk in disks:
        yield from ("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe")
    yield from ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio")


def _initramfs(folder: Path, modules: dict[str, Path], program: list[str]) -> Path:
    """A busybox, the modules, and `init.sh` with its words: all that comes before the host's files are there."""
    tree, archive = folder / "initramfs", folder / "initramfs.cpio"
    tree.mkdir()
    shutil.copy(str(static_busybox()), tree / "busybox")
    shutil.copy(Path(__file__).with_name("init.sh"), tree)
    for path in modules.values():
        shutil.copy(path, tree)
    words = ["/busybox", "sh", "/init.sh", *(path.stem for path in modules.values()), "--", *program]
    (tree / "init").write_text(f"#!/busybox sh\nexec {shlex.join(words)}\n")
    (tree / "init").chmod(0o755)
    names = "\n".join(path.name for path in tree.iterdir())
    with archive.open("wb") as output:
        pack = [str(tree / "busybox"), "cpio", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=tree, input=names.encode(), stdout=output, stderr=subprocess.DEVNULL, check=True)
    return archive


@contextlib.contextmanager
def _files(daemon: str, path: Path, output: IO[bytes]) -> Iterator[Path]:
    """This machine's files on a socket at `path` (host), as a virtiofs, from a view of them that cannot be written.

    What the daemon complains of goes to `output`.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        options = "source=/,cache=always,sandbox=chroot,log_level=warn"
        serve = [daemon, f"--fd={listening.fileno()}", "-o", options]
        words = ["unshare", "--mount", "sh", "-c", f"mount -o remount,bind,ro / && exec {shlex.join(serve)}"]
        served = subprocess.Popen(words, pass_fds=[listening.fileno()], stderr=output)
    try:
        yield path
    finally:
        served.terminate()
        served.wait()
