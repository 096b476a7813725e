"""Containers with a single user id, as plain users without a range in /etc/subuid have them: packages install all the
same. Everybody's containers can be made so, and are here.
"""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from nbcontainer.sandbox.userns import idmap
from tests.debian import debian_tar
from tests.requirements import require
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def single(store_path: Path, _containers_work: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine whose containers have root's id and no other."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    monkeypatch.setattr(idmap, "choose", lambda: idmap.single_map(os.geteuid(), os.getegid()))
    engine = Engine(store_path.with_name("single-id-store"))
    yield engine
    engine.close()


def test_there_is_one_id(single: Engine) -> None:
    """What these tests are about: the map has one entry, of one id."""
    assert run_script(single, "cat /proc/self/uid_map").text.split()[::2] == ["0", "1"]


def test_owners_that_are_not_there_are_answered(single: Engine) -> None:
    """chown, chgrp and an unpacked archive succeed, and every file is root's as before."""
    script = """
    mkdir /d && touch /d/f && ln -s f /d/l
    chown 12:34 /d/f && chgrp 5 /d/f && chown -h 1:1 /d/l && chown -R 65534:65534 /d && echo answered
    tar -cf /t -C /d . && mkdir /e && tar -xf /t -C /e && echo unpacked
    stat -c %u:%g /d/f /e/f
    """
    assert run_script(single, script).lines == ["answered", "unpacked", "0:0", "0:0"]


def test_what_can_be_wrong_is_wrong_still(single: Engine) -> None:
    """A change to ids that are there is the kernel's: a missing file is missing, a read-only one cannot be changed."""
    script = "chown 0:0 /nowhere || echo missing; chown 0:0 /proc/sys/kernel/hostname || echo read-only"
    assert run_script(single, script).lines == ["missing", "read-only"]


@pytest.mark.timeout(900)  # it may be the first to need Debian, which is then made
def test_a_debian_package_installs(single: Engine, tmp_path: Path) -> None:
    """By apt and dpkg: files of other owners, a setgid one, and a script that changes owners and makes a user."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/played.deb").write_bytes(_package())
    script = """
    set -e
    apt-get install -y -q /package/played.deb
    dpkg-query -W -f '${Status}\\n' played
    stat -c '%U %a' /usr/games/played /var/games/scores
    getent passwd player | cut -d: -f6
    /usr/games/played
    """
    ran = run_script(single, script, image=str(debian_tar()), volumes=_shown(tmp_path / "package"))
    assert ran.outcome.ok, ran.stderr
    assert ran.lines[-5:] == ["install ok installed", "root 2755", "root 664", "/var/games", "played"]


def test_the_settings_are_in_no_image(single: Engine) -> None:
    """apt's settings are the container's, not the image's, and a person's own come first."""
    assert run_script(single, 'cat "$APT_CONFIG"').text == 'APT::Sandbox::User "root";'
    assert run_script(single, 'echo "$APT_CONFIG"', env=("APT_CONFIG=/mine",)).text == "/mine"
    assert single.last is None or not [cell for cell in single.last.cells if cell.layer]


def _shown(folder: Path) -> tuple[object, ...]:
    from nbcontainer.commands.options.volumes import parse_volume

    return (parse_volume(f"{folder}:/package:ro"),)


_CONTROL = """\
Package: played
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a game
"""
_AFTER = """\
#!/bin/sh
set -e
chown games:games /var/games
useradd --system --no-create-home --home-dir /var/games player
chown player /var/games/scores
"""


def _package() -> bytes:
    """A binary package, format 2.0 (deb(5)): an ar archive of a version and two tars."""
    control = _tar({"control": (_CONTROL, 0o644, "root"), "postinst": (_AFTER, 0o755, "root")})
    played = "#!/bin/sh\necho played\n"
    data = _tar({"usr/games/played": (played, 0o2755, "games"), "var/games/scores": ("", 0o664, "games")})
    archive = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar", control), ("data.tar", data)):
        archive += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


def _tar(files: dict[str, tuple[str, int, str]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders = {f"{'/'.join(name.split('/')[:depth])}" for name in files for depth in range(1, name.count("/") + 1)}
        for folder in ["", *sorted(folders)]:
            entry = tarfile.TarInfo(f"./{folder}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, (text, mode, owner) in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode, entry.uname, entry.gname = len(text), mode, owner, owner
            entry.uid = entry.gid = 0 if owner == "root" else 5
            tar.addfile(entry, io.BytesIO(text.encode()))
    return written.getvalue()
