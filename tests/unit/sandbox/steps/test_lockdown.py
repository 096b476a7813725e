"""The system calls of the steps that take power away, and the user that a name means."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux import namespaces
from nbcontainer.linux.files import read_text
from nbcontainer.linux.process import PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, capability_mask
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.steps.namespaces import CloneInit, NewSession, SetHostname
from nbcontainer.sandbox.steps.program import CloseDescriptors
from nbcontainer.sandbox.steps.rights.capabilities import DropBounding, DropCapabilities, HardenInit, NoNewPrivileges
from nbcontainer.sandbox.steps.rights.user import SetUser, identity

if TYPE_CHECKING:
    from pathlib import Path

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
bin:x:2:2:bin:/bin:/bin/false
alice:x:1000:1000:Alice:/home/alice:/bin/sh
nohome:x:1001:1001:::/bin/sh
huge:x:4294967295:0::/:/bin/sh
broken:x:many:0::/:/bin/sh
short:x:7
"""
GROUP = """\
root:x:0:
bin:x:2:
wheel:x:10:root,alice
alice:x:1000:alice
video:x:44:alice,bob
odd:x:no:alice
short
"""


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", (0, 0, (10,), "/root")),
        ("0", (0, 0, (10,), "/root")),
        ("root", (0, 0, (10,), "/root")),
        ("alice", (1000, 1000, (10, 44), "/home/alice")),
        ("1000", (1000, 1000, (10, 44), "/home/alice")),
        ("nohome", (1001, 1001, (), "/")),
        ("1234", (1234, 0, (), "/")),
        ("alice:video", (1000, 44, (), "/home/alice")),
        ("alice:0", (1000, 0, (), "/home/alice")),
        ("1234:5678", (1234, 5678, (), "/")),
        ("1234:wheel", (1234, 10, (), "/")),
        ("0:5", (0, 5, (), "/root")),
        (":wheel", (0, 10, (), "/root")),
        ("alice:", (1000, 1000, (10, 44), "/home/alice")),
    ],
)
def test_a_user_by_name_and_number(user: str, found: tuple[int, int, tuple[int, ...], str]) -> None:
    """NAME, UID, NAME:GROUP and UID:GID in any mix mean what they mean to Docker."""
    assert identity(user, PASSWD, GROUP) == found


@pytest.mark.parametrize(
    ("user", "missing"),
    [
        ("nobody-here", "user nobody-here"),
        ("alice:nogroup", "group nogroup"),
        ("-1", "user -1"),
        ("short", "user short"),
        ("²", "user ²"),
        ("alice:²", "group ²"),
        ("alice:-1", "group -1"),
    ],
)
def test_a_user_that_is_not_there_is_named(user: str, missing: str) -> None:
    """The error says which word of the two is not in the image."""
    with pytest.raises(KeyError) as raised:
        identity(user, PASSWD, GROUP)
    assert raised.value.args == (missing,)


def test_a_root_without_a_line_is_at_home_in_root() -> None:
    """An image without /etc/passwd has a root all the same."""
    assert identity("", "", "") == (0, 0, (), "/root")
    assert identity("33", "", "") == (33, 0, (), "/")


@pytest.mark.parametrize("user", ["broken", "alice:odd"])
def test_a_damaged_line_is_no_user(user: str) -> None:
    """A line whose id is no number names nobody, as if it were not there."""
    with pytest.raises(KeyError):
        identity(user, PASSWD, GROUP)


def kernel_of_an_image() -> RecordingKernel:
    """Return a kernel that reads the image's files."""
    files = {"/etc/passwd": PASSWD, "/etc/group": GROUP}
    return RecordingKernel(read_text=lambda path: files.get(path, ""))


def test_the_user_is_set_from_the_groups_to_the_uid() -> None:
    """Groups and gid come first: after the uid there is no right to change them. All three ids are set."""
    kernel = kernel_of_an_image()
    SetUser("alice").apply(kernel, ())
    assert kernel.calls[2:] == [
        call("prctl", PR_SET_KEEPCAPS, 0),
        call("setgroups", [10, 44]),
        call("chown", "/dev/cell", 1000, 1000),
        call("setresgid", 1000, 1000, 1000),
        call("setresuid", 1000, 1000, 1000),
    ]


def test_the_terminal_becomes_the_users() -> None:
    """Its owner is changed while there is still the right to: the user opens it by /dev/stdout."""
    kernel = kernel_of_an_image()
    SetUser("alice", terminal=True).apply(kernel, (20, 20, 20))
    assert kernel.names()[2:] == ["prctl", "setgroups", "chown", "fchown", "setresgid", "setresuid"]
    assert kernel.only("fchown") == [call("fchown", 20, 1000, -1)]


def test_no_groups_are_dropped_where_the_kernel_denies_it() -> None:
    """In a single-id namespace setgroups(2) is denied, and is not called."""
    kernel = kernel_of_an_image()
    SetUser("", drop_groups=False).apply(kernel, ())
    assert "setgroups" not in kernel.names()


def test_a_missing_user_is_an_error_about_the_image() -> None:
    """A name that the image does not have is ENOENT, with the name, before anything is changed."""
    kernel = kernel_of_an_image()
    with pytest.raises(FileNotFoundError, match="no user carol in the image"):
        SetUser("carol").apply(kernel, ())
    assert set(kernel.names()) == {"read_text"}
    assert "number" in SetUser.advice[errno.ENOENT]


@pytest.mark.parametrize("user", ["huge", "4294967295", "0:4294967295", "99999999999999999999", "alice:4294967296"])
def test_an_id_that_is_none_is_refused(user: str) -> None:
    """(uid_t)-1 means `unchanged` to setresuid(2), which would leave root as it is; larger numbers are no ids."""
    kernel = kernel_of_an_image()
    with pytest.raises(OSError, match=os.strerror(errno.ERANGE)) as raised:
        SetUser(user).apply(kernel, ())
    assert raised.value.errno == errno.ERANGE
    with pytest.raises(OSError, match=f"{os.strerror(errno.ERANGE)}: '4294967296'"):
        SetUser(groups=("4294967296",)).apply(kernel, ())
    assert "4294967294" in SetUser.advice[errno.ERANGE]
    assert kernel.only("setresuid", "setresgid", "setgroups") == []


@pytest.mark.parametrize(("uid", "kept"), [(0, ("CHOWN", "KILL")), (33, ())])
def test_root_keeps_the_set_and_others_nothing(uid: int, kept: tuple[str, ...]) -> None:
    """Permitted and effective are the kept set for root, empty for others; inheritable and ambient are always empty."""
    kernel = RecordingKernel(getuid=lambda: uid)
    DropCapabilities(("CHOWN", "KILL")).apply(kernel, ())
    mask = capability_mask(kept)
    assert kernel.calls == [call("getuid"), call("clear_ambient"), call("capset", mask, mask, 0)]


def test_the_bounding_set_is_cut_to_the_kept() -> None:
    """Every capability that this kernel knows and the set does not name is dropped."""
    kernel = RecordingKernel()
    DropBounding(("CHOWN", "SETUID")).apply(kernel, ())
    assert kernel.calls == [call("last_capability"), call("drop_bounding", capability_mask(("CHOWN", "SETUID")), 40)]


def test_init_cannot_be_looked_into() -> None:
    """Pid 1 becomes undumpable, and can gain nothing."""
    kernel = RecordingKernel()
    HardenInit().apply(kernel, ())
    assert kernel.calls == [call("prctl", PR_SET_DUMPABLE, 0), call("prctl", PR_SET_NO_NEW_PRIVS, 1)]


def test_a_cell_has_a_session_and_the_usual_mask() -> None:
    """A session of its own, and files are made 0644."""
    kernel = RecordingKernel()
    NewSession().apply(kernel, ())
    assert kernel.calls == [call("setsid"), call("umask", 0o022)]


def test_the_small_steps_are_one_call_each() -> None:
    """The host's name, no new privileges, and descriptors that exec closes."""
    kernel = RecordingKernel()
    for step in (SetHostname("box"), NoNewPrivileges(), CloseDescriptors()):
        step.apply(kernel, ())
    assert kernel.calls == [call("sethostname", "box"), call("prctl", PR_SET_NO_NEW_PRIVS, 1), call("cloexec_from", 3)]


def test_init_is_cloned_into_the_namespaces_that_are_named() -> None:
    """The flags are those of the names; the user namespace is not among them, being the launcher's."""
    kernel = RecordingKernel()
    CloneInit(("mount", "pid")).apply(kernel, ())
    assert kernel.calls == [call("clone", namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID)]
    every = CloneInit().flags()
    assert every == (
        namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWPID
        | namespaces.CLONE_NEWUTS
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWCGROUP
        | namespaces.CLONE_NEWNET
    )
    assert not every & namespaces.CLONE_NEWUSER


def test_a_small_file_is_read_and_a_large_one_is_cut(tmp_path: Path) -> None:
    """What is read of the image's is text, whatever is in it, and never more than 1 MiB."""
    (tmp_path / "bytes").write_bytes(b"caf\xc3\xa9 \xff\n")
    assert read_text(str(tmp_path / "bytes")) == "café �\n"
    (tmp_path / "large").write_bytes(b"x" * (3 << 20))
    assert len(read_text(str(tmp_path / "large"))) == 1 << 20
    assert read_text(str(tmp_path / "none")) == ""
    assert read_text(str(tmp_path)) == ""


@pytest.mark.timeout(20)
def test_a_pipe_in_the_image_does_not_hold_a_cell_up(tmp_path: Path) -> None:
    """An /etc/passwd that is a FIFO, which nobody writes to, is an empty one."""
    os.mkfifo(tmp_path / "passwd")
    assert read_text(str(tmp_path / "passwd")) == ""
