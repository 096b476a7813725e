"""Images that try to have something of their own where the container's own must be."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import SetupFailed
from nbcontainer.images.builtin import busybox

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


def entry(
    name: str, kind: bytes, link: str = "", mode: int = 0o755, data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    return info, data


Image = Callable[..., str]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Makes the tar of an image, busybox without some names and with these entries, and returns its path."""

    def make(*changes: tuple[tarfile.TarInfo, bytes], without: tuple[str, ...] = ()) -> str:
        taken = {*without, *(info.name for info, _ in changes)}
        path = tmp_path / "image.tar"
        with tarfile.open(fileobj=io.BytesIO(busybox.busybox()[0])) as old, tarfile.open(path, "w") as new:
            for info in old:
                if info.name not in taken:
                    new.addfile(info, old.extractfile(info) if info.isreg() else None)
            for info, data in changes:
                new.addfile(info, io.BytesIO(data))
        return str(path)

    return make


@pytest.mark.parametrize("where", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["/etc", "../../../../etc", "tmp", "/proc/self/root/etc", "nowhere"])
def test_a_link_where_a_directory_must_be(cell: Cell, image: Image, where: str, target: str) -> None:
    """An image whose /proc, /sys or /dev is a link is refused with its reason (CVE-2019-19921, CVE-2023-27561)."""
    hostile = image(entry(where, tarfile.SYMTYPE, target))
    with pytest.raises(SetupFailed, match=f"/{where}: .*the image has a symbolic link where a directory must be"):
        cell("true", image=hostile)


@pytest.mark.parametrize("where", ["proc", "sys", "dev"])
def test_a_file_where_a_directory_must_be(cell: Cell, image: Image, where: str) -> None:
    """An image whose /proc, /sys or /dev is a file is refused with its reason."""
    hostile = image(entry(where, tarfile.REGTYPE))
    with pytest.raises(SetupFailed, match=f"/{where}: .*the image has a file where a directory must be"):
        cell("true", image=hostile)


def test_an_image_without_them_gets_them(cell: Cell, image: Image) -> None:
    """Missing directories are made: an image of one program is an image."""
    bare = image(without=("proc", "sys", "dev"))
    assert cell("ls -d /proc/self /sys/class /dev/null", image=bare).lines == ["/dev/null", "/proc/self", "/sys/class"]


def test_what_an_image_has_in_dev_is_covered(cell: Cell, image: Image) -> None:
    """A planted /dev/null, /dev/cell or /dev/pts of the image's is under the container's own (CVE-2025-31133)."""
    hostile = image(
        entry("dev/null", tarfile.SYMTYPE, "/etc/passwd"),
        entry("dev/cell", tarfile.SYMTYPE, "/etc/passwd"),
        entry("dev/pts", tarfile.SYMTYPE, "/etc"),
        entry("dev/stdout", tarfile.REGTYPE),
    )
    ran = cell(
        "echo x > /dev/null; ls -l /dev/null | cut -c 1; readlink /dev/stdout; head -c 4 /dev/cell", image=hostile
    )
    assert ran.lines == ["c", "/proc/self/fd/1", "echo"]


def test_nothing_is_imported_from_an_image(cell: Cell, engine: Engine, image: Image) -> None:
    """Modules and libraries that an image has where ours look are not looked at (CVE-2019-14271)."""
    trap = b"import os\nopen('/trapped', 'w')\n"
    names = ("json.py", "encodings/idna.py", "usr/lib/python3/json.py", "nbcontainer/__init__.py", "resource.py")
    hostile = image(
        *(entry(name, tarfile.REGTYPE, data=trap) for name in names),
        *(entry(f"lib/{name}", tarfile.REGTYPE, data=b"\x7fELF") for name in ("libnss_files.so.2", "libc.so.6")),
    )
    assert cell("ls /trapped; echo ok", image=hostile, user="nobody" if engine.idmap.setgroups else "").text == "ok"
    with pytest.raises(SetupFailed):
        cell("true", image=hostile, user="no-such-user")


def test_a_pipe_for_a_passwd_does_not_hold_up(cell: Cell, image: Image) -> None:
    """/etc/passwd and /etc/group that are FIFOs are empty ones: the cell starts."""
    hostile = image(entry("etc/passwd", tarfile.FIFOTYPE), entry("etc/group", tarfile.FIFOTYPE))
    assert cell("echo $HOME", image=hostile).text == "/root"


def test_a_passwd_with_a_trap_is_text(cell: Cell, image: Image) -> None:
    """A line that makes root of nobody's id, ids that are none, and bytes that are no text are read as text."""
    lines = b"\xff\xfe:x:1:1::/:\nhuge:x:4294967295:0::/:\nword:x:zero:0::/:\nroot:x:0:0::/home/../odd:/bin/sh\n"
    hostile = image(entry("etc/passwd", tarfile.REGTYPE, data=lines, mode=0o644))
    assert cell("echo $HOME; id -u", image=hostile).lines == ["/home/../odd", "0"]
    with pytest.raises(SetupFailed, match="the highest id of a user or a group is 4294967294"):
        cell("id", image=hostile, user="huge")
    with pytest.raises(SetupFailed, match="no user word in the image"):
        cell("id", image=hostile, user="word")


def test_a_passwd_that_is_a_link_is_the_containers(cell: Cell, image: Image) -> None:
    """A link is followed in the container's root: the host's users are not read."""
    hostile = image(
        entry("etc/passwd", tarfile.SYMTYPE, "../../../../other"),
        entry("other", tarfile.REGTYPE, data=b"root:x:0:0::/linked:/bin/sh\n", mode=0o644),
    )
    assert cell("echo $HOME", image=hostile).text == "/linked"


def test_a_setuid_file_is_inert(cell: Cell, engine: Engine, image: Image) -> None:
    """A setuid copy of a program gives another user nothing: no new privileges."""
    if not engine.idmap.setgroups:
        pytest.skip("needs a range of ids")
    with tarfile.open(fileobj=io.BytesIO(busybox.busybox()[0])) as tar:
        file = tar.extractfile("bin/busybox")
        assert file is not None
        program = file.read()
    hostile = image(entry("bin/suid", tarfile.REGTYPE, mode=0o4755, data=program))
    ran = cell(
        "stat -c %a /bin/suid; exec -a id /bin/suid -u 2>/dev/null || /bin/suid id -u", image=hostile, user="1000"
    )
    assert ran.lines[0] == "4755"
    assert ran.lines[-1] == "1000"
