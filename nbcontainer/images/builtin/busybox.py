"""The built-in image `busybox`, made from a static busybox: the same binary gives the same tar, byte for byte."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from nbcontainer.errors import ImageError, ImageNotFound
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.tar_writer import TarWriter
from nbcontainer.linux.process import find_program
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
_RECORD = 10240  # bytes; POSIX tars have a multiple of this size


def busybox_tar(binary: bytes, applets: list[str]) -> bytes:
    """Return the root file system of `busybox` as a tar: bin/busybox, and a relative link for each applet.

    `applets` are the paths that `busybox --list-full` prints. Times are 0 and owners root: the tar depends on the
    arguments alone.
    """
    with os.fdopen(os.memfd_create("busybox.tar", os.MFD_CLOEXEC), "r+b") as file:
        _write_tar(file.fileno(), binary, applets)
        file.seek(0)
        data = file.read()
    return data + bytes(-len(data) % _RECORD)


def _write_tar(fd: int, binary: bytes, applets: list[str]) -> None:
    with TarWriter(fd, Compression.NONE) as out:
        for name, mode in sorted(_DIRECTORIES.items()):
            out.entry(f"{name}/".encode(), tar.DIRECTORY, mode, 0, 0, 0, 0)
        _add_file(out, "bin/busybox", binary, 0o755)
        for applet in sorted(set(applets) - {"bin/busybox"}):
            link = os.path.relpath("/bin/busybox", Path("/", applet).parent)
            out.entry(os.fsencode(applet), tar.SYMLINK, 0o777, 0, 0, 0, 0, os.fsencode(link))
        for name, text in sorted(_FILES.items()):
            _add_file(out, name, text.encode(), _MODES.get(name, 0o644))
        out.finish()


def _add_file(out: TarWriter, name: str, data: bytes, mode: int) -> None:
    out.entry(name.encode(), tar.REGULAR, mode, 0, 0, len(data), 0)
    out.data(data)
    out.pad(len(data))


def busybox() -> tuple[bytes, str]:
    """Return the tar, and where its binary is from: a static busybox on PATH, else the distribution's package.

    Raises `ImageNotFound` with the package to install, and `ImageError`.
    """
    if (found := static_busybox()) is not None:
        return _tar_of(found), str(found)
    with tempfile.TemporaryDirectory(prefix="nbcontainer-") as folder:
        fetched = _from_debian(Path(folder))
        if fetched is not None:
            return _tar_of(fetched), "the distribution's package busybox-static"
    missing = "no static busybox on PATH, and the distribution's package could not be downloaded"
    raise ImageNotFound(missing, hint=INSTALL_BUSYBOX)


def static_busybox() -> Path | None:
    """Return the first static busybox on PATH and in the usual directories, or None."""
    return next((candidate for candidate in _on_path() if is_static(candidate)), None)


def _tar_of(binary: Path) -> bytes:
    try:
        listed = subprocess.run([binary, "--list-full"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise ImageError(f"{binary} --list-full failed: {error}", hint="install a busybox for the host") from error
    return busybox_tar(binary.read_bytes(), listed.stdout.split())


def _on_path() -> list[Path]:
    # Not in a relative directory: a container may write to the notebook's, and the host runs the program.
    folders = [*os.environ.get("PATH", os.defpath).split(":"), "/bin", "/usr/bin", "/sbin", "/usr/sbin"]
    found = []
    for folder in dict.fromkeys(folder for folder in folders if folder.startswith("/")):
        for name in ("busybox", "busybox-static", "busybox.static"):
            if program := shutil.which(name, path=folder):
                found.append(Path(program).resolve())
    return list(dict.fromkeys(found))


def is_static(path: Path) -> bool:
    """Whether a program is an ELF file without a dynamic loader (no PT_INTERP; elf(5))."""
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
    """Download busybox-static with apt as this user, with apt's state in `folder`; return the binary, or None."""
    apt_get, dpkg_deb = find_program("apt-get"), find_program("dpkg-deb")
    if apt_get is None or dpkg_deb is None:
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
    # First with the machine's own package lists: reading them takes no network.
    for options in ([], private):
        if options:
            _quietly([apt_get, *options, "-q", "update"], folder)
        _quietly([apt_get, *options, "-q", "download", "busybox-static"], folder)
        for package in folder.glob("busybox-static_*.deb"):
            _quietly([dpkg_deb, "-x", str(package), str(folder / "files")], folder)
            for place in ("bin/busybox", "usr/bin/busybox"):
                if (folder / "files" / place).is_file():
                    return folder / "files" / place
    return None


def _quietly(command: list[str], folder: Path) -> None:
    # A failure is not an error: the caller looks for the files, and names the package to install if there are none.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=180, check=False)
