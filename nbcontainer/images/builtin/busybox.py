"""Images that are made here: `busybox`, from a static busybox, the same tree byte for byte from the same binary."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path

from nbcontainer.errors import ImageError, ImageNotFound
from nbcontainer.oci.documents import ImageConfig

BUSYBOX_CONFIG = ImageConfig(env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",), cmd=("sh",))

INSTALL_BUSYBOX = "install it (Debian, Ubuntu: apt install busybox-static; Fedora, Arch, Alpine: package busybox)"

_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sbin": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/local": 0o755,
    "usr/local/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/log": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\n"
    "www-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/resolv.conf": "# No network unless the container is started with one.\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/shells": "/bin/sh\n/bin/ash\n",
}
_MODES = {"etc/shadow": 0o640}


def busybox_tar(binary: bytes, applets: list[str]) -> bytes:
    """The root file system of `busybox` as a tar: the binary at bin/busybox and a relative link for each applet.

    `applets` are the paths that `busybox --list-full` prints. Times are 0 and owners root, so that the tar depends
    on nothing but the arguments.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in sorted(_DIRECTORIES.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _add_file(tar, "bin/busybox", binary, 0o755)
        for applet in sorted(set(applets) - {"bin/busybox"}):
            entry = tarfile.TarInfo(applet)
            entry.type, entry.mode = tarfile.SYMTYPE, 0o777
            entry.linkname = os.path.relpath("bin/busybox", Path(applet).parent)
            tar.addfile(entry)
        for name, text in sorted(_FILES.items()):
            _add_file(tar, name, text.encode(), _MODES.get(name, 0o644))
    return out.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(data)
    tar.addfile(entry, io.BytesIO(data))


def busybox() -> tuple[bytes, str]:
    """The tar, and where its binary came from: a static busybox on PATH, else the distribution's package.

    Raises `ImageNotFound` with what to install.
    """
    if (found := static_busybox()) is not None:
        return _tar_of(found), str(found)
    with tempfile.TemporaryDirectory(prefix="nbcontainer-") as folder:
        fetched = _from_debian(Path(folder))
        if fetched is not None:
            return _tar_of(fetched), "the distribution's package busybox-static"
    missing = "no static busybox on PATH, and the distribution's package could not be fetched"
    raise ImageNotFound(missing, hint=INSTALL_BUSYBOX)


def static_busybox() -> Path | None:
    """The first static busybox of PATH and the usual places; None for none."""
    return next((candidate for candidate in _on_path() if is_static(candidate)), None)


def _tar_of(binary: Path) -> bytes:
    try:
        listed = subprocess.run([binary, "--list-full"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise ImageError(f"{binary} --list-full failed: {error}", hint="is it a busybox for this machine?") from error
    return busybox_tar(binary.read_bytes(), listed.stdout.split())


def _on_path() -> list[Path]:
    folders = [*os.environ.get("PATH", os.defpath).split(":"), "/bin", "/usr/bin", "/sbin", "/usr/sbin"]
    found = []
    for folder in dict.fromkeys(folders):
        for name in ("busybox", "busybox-static", "busybox.static"):
            if program := shutil.which(name, path=folder or "."):
                found.append(Path(program).resolve())
    return list(dict.fromkeys(found))


def is_static(path: Path) -> bool:
    """Whether a program is an ELF file that asks for no dynamic loader (no PT_INTERP; elf(5))."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] != 2 or head[5] != 1:
                return False
            (offset,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            file.seek(offset)
            table = file.read(size * count)
    except OSError:
        return False
    if size < 4 or len(table) < size * count:
        return False
    return all(struct.unpack_from("<I", table, size * i)[0] != 3 for i in range(count))


def _from_debian(folder: Path) -> Path | None:
    """Downloads busybox-static with apt as whoever this is, with its state in `folder`; None where that cannot be."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    for name in ("lists/partial", "cache/archives/partial", "files"):
        (folder / name).mkdir(parents=True)
    private = [
        "-o",
        f"Dir::State::Lists={folder}/lists",
        "-o",
        f"Dir::Cache={folder}/cache",
        "-o",
        "APT::Sandbox::User=",
        "-o",
        "Debug::NoLocking=1",
    ]
    # The machine's own package lists first: reading them takes no network.
    for options in ([], private):
        if options:
            _quietly(["apt-get", *options, "-q", "update"], folder)
        _quietly(["apt-get", *options, "-q", "download", "busybox-static"], folder)
        for package in folder.glob("busybox-static_*.deb"):
            _quietly(["dpkg-deb", "-x", str(package), str(folder / "files")], folder)
            for place in ("bin/busybox", "usr/bin/busybox"):
                if (folder / "files" / place).is_file():
                    return folder / "files" / place
    return None


def _quietly(command: list[str], folder: Path) -> None:
    # Whatever becomes of it: the caller looks at what is there, and says what to install where nothing is.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=180, check=False)
