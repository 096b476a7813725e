"""What of a machine is in the image `host`, on machines that are made of the test's own files."""

from __future__ import annotations

import contextlib
import os
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.archives.prepare import prepare
from nbcontainer.images.builtin import host, host_survey
from nbcontainer.images.builtin.host_survey import DIRECTORY, EMPTY, FILE, GONE, LINK, Surroundings, survey
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.merge import merge
from nbcontainer.images.staging import Staging
from nbcontainer.linux.procfs import Mount
from nbcontainer.oci import reference
from nbcontainer.progress import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store

SHADOW = "root:$6$salt$hash:20228:0:99999:7:::\nme:$y$other:20000:0:99999:7:::\n"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A machine's root: programs, two homes, secrets, a store, an interpreter in a home."""
    top = tmp_path / "machine"
    for path in (
        *("usr/bin", "usr/local/share", "etc/ssl/private", "var/lib/store", "var/lib/dpkg", "var/tmp", "tmp", "proc"),
        *("home/me/.ssh", "home/me/envs/one/bin", "root", "data/deep/er", "run", "closed"),
    ):
        (top / path).mkdir(parents=True)
    (top / "bin").symlink_to("usr/bin")
    for path, text, mode in (
        ("usr/bin/program", "x", 0o755),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644),
        ("etc/shadow", SHADOW, 0o640),
        ("etc/keys", "secret", 0o600),
        ("var/lib/dpkg/lock", "", 0o640),
        ("home/me/.ssh/id", "secret", 0o600),
        ("data/near", "secret", 0o600),
        ("data/deep/er/far", "not looked for", 0o600),
    ):
        (top / path).write_text(text)
        (top / path).chmod(mode)
    (top / "etc/ssl/private").chmod(0o710)
    (top / "closed").chmod(0o700)
    (top / "tmp").chmod(0o1777)
    return top


@pytest.fixture
def outside(top: Path) -> Surroundings:
    """Where that machine is looked at, by a root that may have all of it."""
    return Surroundings("/var/lib/store", whole=True, top=top, homes=("/home", "/root"), uid=os.geteuid())


def kinds(outside: Surroundings) -> dict[str, str]:
    return {path: entry.kind for path, entry in survey(outside).entries.items()}


def test_what_is_copied_is_the_file_itself(tmp_path: Path) -> None:
    """A file beside a mount that has become a link or a pipe by the time it is read is left out; nothing waits."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / "out").symlink_to(tmp_path)
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    survey = host_survey._Survey(host_survey.Surroundings("/store", whole=False, top=tmp_path))
    for path in ("/link", "/out/secret", "/pipe", "/file", "/none"):
        survey._copy(path)
    assert {path: entry.data for path, entry in survey.entries.items()} == {"/file": b"text"}


def test_homes_are_empty(outside: Surroundings) -> None:
    """Nothing of /home or /root is there but the directories themselves."""
    found = kinds(outside)
    assert (found["/home"], found["/root"]) == (EMPTY, EMPTY)
    assert not [path for path in found if path.startswith("/home/")]


def test_a_home_elsewhere_is_empty(outside: Surroundings, top: Path) -> None:
    """A user's directory that is somewhere else, behind a link too, is hidden where it is."""
    (top / "people").symlink_to("data/deep")
    assert kinds(replace(outside, homes=("/people/er",)))["/data/deep/er"] == EMPTY


def test_what_each_container_has_fresh_is_empty(outside: Surroundings) -> None:
    """/proc, /sys, /dev, /run and the places for temporary files are there, with the modes they need."""
    entries = survey(outside).entries
    assert all(entries[path].kind == EMPTY for path in ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp"))
    assert entries["/tmp"].mode == 0o1777


def test_the_store_is_not_there(outside: Surroundings) -> None:
    """The store is taken out, whether it is open to others or not."""
    assert kinds(outside)["/var/lib/store"] == GONE


def test_what_others_may_not_read_is_not_there(outside: Surroundings) -> None:
    """Root's own files and directories are hidden: everywhere among settings and data, near the top elsewhere."""
    found = kinds(outside)
    assert (found["/etc/keys"], found["/var/lib/dpkg/lock"], found["/data/near"]) == (GONE, GONE, GONE)
    assert (found["/etc/ssl/private"], found["/closed"]) == (EMPTY, EMPTY)
    assert "/data/deep/er/far" not in found
    assert "/etc/passwd" not in found


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_something_else_in_the_place_of_passwords_is_hidden(outside: Surroundings, kind: str) -> None:
    """A pipe that a container with /etc as a volume left there is not waited for, and a link shows no other file."""
    shadow = outside.top / "etc/shadow"
    shadow.unlink()
    if kind == "pipe":
        os.mkfifo(shadow)
    elif kind == "link":
        (outside.top / "secret").write_text("host:port:database:user:password\n")
        shadow.symlink_to("../secret")
    else:
        shadow.mkdir()
    assert survey(outside).entries["/etc/shadow"].kind == GONE


def test_passwords_lead_nowhere(outside: Surroundings) -> None:
    """The users of /etc/shadow are there, and their hashes are not."""
    entry = survey(outside).entries["/etc/shadow"]
    assert (entry.kind, entry.mode) == (FILE, 0o640)
    assert entry.data == b"root:*:20228:0:99999:7:::\nme:*:20000:0:99999:7:::\n"


def test_the_interpreter_is_shown_in_a_home(outside: Surroundings) -> None:
    """The notebook's Python is a directory of its own where the home around it stays empty."""
    view = survey(replace(outside, pythons=("/home/me/envs/one", "/usr")))
    assert view.directories == ("/", "/home/me/envs/one")
    assert [view.entries[path].kind for path in ("/home", "/home/me", "/home/me/envs")] == [EMPTY, DIRECTORY, DIRECTORY]
    assert "/home/me/.ssh" not in view.entries


def test_links_to_the_interpreter_are_shown(outside: Surroundings, top: Path) -> None:
    """A link in a home that leads to it leads to it inside, too."""
    (top / "home/me/current").symlink_to("envs/one")
    view = survey(replace(outside, pythons=("/home/me/current", "/home/me/envs/one")))
    assert view.entries["/home/me/current"] == host_survey.SurveyEntry(LINK, 0o777, data=b"envs/one")
    assert view.directories == ("/", "/home/me/envs/one")


def test_links_without_end_end(outside: Surroundings, top: Path) -> None:
    """A link to itself on the way to the interpreter hangs nothing."""
    (top / "home/me/loop").symlink_to("loop")
    assert survey(replace(outside, pythons=("/home/me/loop/x",))).directories


def test_programs_on_other_file_systems_are_shown(outside: Surroundings, top: Path) -> None:
    """What is mounted among the programs is a directory of its own; data disks and the kernel's are not."""
    (top / "usr/share").mkdir()
    mounts = [("/usr/share", "ext4"), ("/data", "ext4"), ("/proc", "proc"), ("/etc/passwd", "ext4"), ("/var/x", "nfs")]
    view = survey(replace(outside, mounts=tuple(Mount("/", target, (), fstype) for target, fstype in mounts)))
    assert view.directories == ("/", "/usr/share")


def test_a_plain_user_sees_each_directory_at_the_top(outside: Surroundings) -> None:
    """Without the right to all of /, it is put together: links copied, directories shown, closed ones empty."""
    view = survey(replace(outside, whole=False))
    assert view.entries["/bin"] == host_survey.SurveyEntry(LINK, 0o777, data=b"usr/bin")
    assert {"/data", "/etc", "/usr", "/var"} <= set(view.directories)
    assert not {"/", "/home", "/root", "/tmp", "/proc"} & set(view.directories)
    assert {entry.uid for entry in view.entries.values()} == {0}


def test_a_directory_with_a_mount_is_shown_piece_by_piece(outside: Surroundings, top: Path) -> None:
    """Docker's /etc has files mounted in it, which no plain user's overlay may have below: its parts are shown."""
    (top / "etc/link").symlink_to("passwd")
    (top / "etc/apt").mkdir()
    view = survey(replace(outside, whole=False, mounts=(Mount("/x", "/etc/passwd", (), "ext4"),)))
    assert "/etc" not in view.directories
    assert "/etc/apt" in view.directories
    assert view.entries["/etc/passwd"].data == b"root:x:0:0::/root:/bin/sh\n"
    assert view.entries["/etc/link"].kind == LINK


def test_a_plain_users_own_secrets_are_hidden(outside: Surroundings) -> None:
    """What belongs to the user and is closed to others is not shown; what belongs to others is theirs to keep."""
    mine = kinds(replace(outside, whole=False))
    others = kinds(replace(outside, whole=False, uid=os.geteuid() + 1))
    assert mine["/etc/keys"] == GONE
    assert "/etc/keys" not in others


def test_the_layer_says_it_as_oci_does(outside: Surroundings, tmp_path: Path) -> None:
    """Whiteouts for what is gone, opaque markers in what is empty; the same machine gives the same bytes."""
    entries = survey(replace(outside, pythons=("/home/me/envs/one",))).entries
    digests = []
    for name in ("one.tar", "two.tar"):
        fd = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT)
        digests.append(host.write_layer(fd, entries))
        os.close(fd)
    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "one.tar") as tar:
        names = tar.getnames()
    assert {"var/lib/.wh.store", "home/.wh..wh..opq", "home/me/envs/one", "etc/shadow"} <= set(names)
    assert names.index("home") < names.index("home/.wh..wh..opq") < names.index("home/me")


def test_the_image_is_made_once(store: Store, runner: Runner, outside: Surroundings, top: Path) -> None:
    """The same machine is the same image, and nothing is written; a secret more is another."""
    first = host.host(Staging(store, runner), outside)
    stamp = (store.path / "index.json").stat().st_ino
    assert host.host(Staging(store, runner), outside).digest == first.digest
    assert (store.path / "index.json").stat().st_ino == stamp
    (top / "etc/more").write_text("secret")
    (top / "etc/more").chmod(0o600)
    second = host.host(Staging(store, runner), outside)
    assert second.digest != first.digest
    assert store.index.image("host").digest == second.digest


def test_no_image_from_elsewhere_has_the_layer(
    store: Store, runner: Runner, outside: Surroundings, tmp_path: Path
) -> None:
    """Who knows all that the layer hides cannot make the same one, and so see the machine: it has a secret in it."""
    with (tmp_path / "guessed.tar").open("wb") as file:
        guessed = host.write_layer(file.fileno(), survey(outside).entries)
    image = host.host(Staging(store, runner), outside)
    assert image.layers[0].diff_id != guessed
    assert store.layers.find(guessed) is None
    (store.path / "host.key").unlink()
    assert host.host(Staging(store, runner), outside).digest != image.digest


def test_what_lies_below_is_written_beside(store: Store, runner: Runner, outside: Surroundings) -> None:
    """The machine's directories are said beside the layer, and said anew where they are others."""
    image = host.host(Staging(store, runner), outside)
    layer = store.layers.find(image.layers[0].diff_id)
    assert layer is not None
    assert host.directories(store, layer) == ("/",)
    host.write_beside(store, layer, ["/", "/usr/share"])
    host.host(Staging(store, runner), outside)
    assert host.directories(store, layer) == ("/",)
    assert host.is_of_this_machine(store, image)


@pytest.mark.parametrize("name", ["host", "host:latest", "docker.io/library/host"])
def test_no_other_image_is_named_host(name: str) -> None:
    """The name is this machine's."""
    with pytest.raises(UsageError, match="'host' is built in"):
        reference.parse_new(name)
    assert reference.parse_new("host:2").familiar == "host:2"


def test_a_part_goes_to_its_place(tmp_path: Path) -> None:
    """What was written to a directory of its own is moved into the tree, with what is missing above it made."""
    for path in ("diff/usr", "diff.0/bin", "diff.1/x", "diff.2/y"):
        (tmp_path / path).mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    merge(fd, [("diff.0", "/usr"), ("diff.1", "/usr/bin/deep"), ("diff.2", "/home/me/env")], {"/home/me": 0o700})
    os.close(fd)
    assert (tmp_path / "diff/usr/bin/deep/x").is_dir()
    assert (tmp_path / "diff/home/me/env/y").is_dir()
    assert (tmp_path / "diff/home/me").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "diff.0").exists()


@pytest.mark.parametrize("plant", [lambda path: path.symlink_to("/etc"), lambda path: path.write_text("x")])
def test_a_part_follows_no_link(tmp_path: Path, plant: Callable[[Path], object]) -> None:
    """A link or a file where a directory must be leads nowhere."""
    (tmp_path / "diff").mkdir()
    (tmp_path / "diff.0").mkdir()
    plant(tmp_path / "diff/usr")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(NotADirectoryError):
        merge(fd, [("diff.0", "/usr/bin")], {})
    os.close(fd)
    assert (tmp_path / "diff.0").is_dir()


def test_an_image_of_this_machine_is_not_given_away(store: Store, runner: Runner, outside: Surroundings) -> None:
    """It would be a few whiteouts elsewhere: the error says what can be done."""
    image = host.host(Staging(store, runner), outside)
    with contextlib.ExitStack() as stack, Tracker("save") as tracker, pytest.raises(ImageError, match="the host"):
        prepare(store, image, Compression.NONE, stack, tracker.part())
