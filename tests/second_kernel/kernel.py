"""Debian's kernel for machines in clouds, from its package: downloaded once for a machine, and never installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.requirements import require
from tests.second_kernel.report import content

SERIES = "6.1"
"""Debian 12's: control groups of version 2 only, and older than what this project is mostly run on."""

KEPT = Path("/var/tmp")
"""Where the package stays, as `nbcontainer-tests-linux-image-….deb` (host)."""

_META = "linux-image-cloud-amd64"
_NAME = re.compile(rf"linux-image-{re.escape(SERIES)}\.\S+-cloud-amd64")


@dataclass(frozen=True)
class Kernel:
    """A kernel's image, and those of its modules that were asked for, in that order (host)."""

    image: Path
    modules: dict[str, Path]


def unpack_kernel(into: Path, modules: tuple[str, ...]) -> Kernel:
    """Unpacks what is needed of the package into a directory; the test is skipped where it cannot be had."""
    found: dict[str, Path] = {}
    words = ["dpkg", "--fsys-tarfile", str(_package())]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as dpkg, tarfile.open(fileobj=dpkg.stdout, mode="r|") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            name = "vmlinuz" if path.name.startswith("vmlinuz-") else path.name.removesuffix(".ko")
            if member.isfile() and name in (*modules, "vmlinuz"):
                found[name] = into / path.name
                with found[name].open("wb") as file, content(tar, member) as data:
                    shutil.copyfileobj(data, file)
    assert set(found) == {*modules, "vmlinuz"}, f"the package has no {set(modules) - set(found)}"
    return Kernel(found["vmlinuz"], {name: found[name] for name in modules})


def _package() -> Path:
    """The package's path: what root downloaded before, or downloads now."""
    kept = sorted(path for path in KEPT.glob(f"nbcontainer-tests-linux-image-{SERIES}.*.deb") if _is_roots(path))
    return kept[-1] if kept else _download()


def _is_roots(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_uid == 0


def _download() -> Path:
    require("apt-cache")
    told = subprocess.run(["apt-cache", "depends", _META], capture_output=True, text=True, check=False).stdout
    name = next(iter(_NAME.findall(told)), "")
    require("kernel", available=bool(name), why=f"apt has no {_META} of Linux {SERIES}")
    with tempfile.TemporaryDirectory(prefix="nbcontainer-kernel-", dir=KEPT) as folder:
        words = ["apt-get", "-o", "APT::Sandbox::User=root", "download", name]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        require("kernel", available=done.returncode == 0, why=f"cannot download {name}: {done.stderr.strip()[-300:]}")
        downloaded = next(Path(folder).glob("*.deb"))
        return downloaded.rename(KEPT / f"nbcontainer-tests-{downloaded.name}")
