"""A Debian root file system with Python and ipykernel, by debootstrap and pip: once for a machine, as it takes long.

Root makes it; plain users take what root has made.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nbcontainer.commands.options.volumes import parse_volume
from tests.requirements import require

SUITE, PYTHON = "bookworm", "3.11"
KEPT = Path(f"/var/tmp/nbcontainer-tests-{SUITE}.tar")
"""Root's own, so that nobody else can put something else there."""


def debian_tar() -> Path:
    """The tar's path; the test is skipped where there is none and this is not root, or no debootstrap."""
    if not _is_roots(KEPT) and os.geteuid() == 0:
        require("debootstrap")
        with Path(f"{KEPT}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_roots(KEPT):
                _make()
    require("debian", available=_is_roots(KEPT), why=f"root's tests have not made {KEPT}")
    return KEPT


def _is_roots(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_uid == 0


def _make() -> None:
    with tempfile.TemporaryDirectory(prefix="nbcontainer-debian-", dir="/var/tmp") as name:
        root, made = Path(name) / "root", Path(name) / "debian.tar"
        # What it mounts goes with its mount namespace, however it ends: a /proc must not be there when this is removed.
        words = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
        words += ["--include=python3,ca-certificates", SUITE, str(root)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        packages = root / f"usr/local/lib/python{PYTHON}/dist-packages"
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(packages)]
        words += ["--python-version", PYTHON, "--only-binary", ":all:", "ipykernel"]
        subprocess.run(words, check=True)
        leave_out = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./dev/*"]
        subprocess.run(["tar", "-C", root, *leave_out, "-cf", made, "."], check=True)
        made.chmod(0o644)
        made.rename(KEPT)


def network_options() -> dict[str, Any]:
    """What a cell needs to install from the network as this machine does: its certificates, and pip's settings."""
    certificates, settings = Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")
    volumes = [parse_volume(f"{certificates.resolve()}:/certificates.pem:ro")] if certificates.exists() else []
    volumes += [parse_volume(f"{settings}:/etc/pip.conf:ro")] if settings.exists() else []
    certified = ["PIP_CERT=/certificates.pem"] if certificates.exists() else []
    env = (*certified, "PIP_ROOT_USER_ACTION=ignore", "PIP_BREAK_SYSTEM_PACKAGES=1", "DEBIAN_FRONTEND=noninteractive")
    return {"network": "host", "env": env, "volumes": tuple(volumes)}
