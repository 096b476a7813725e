"""The text of calls, as strace(1) writes them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from nbcontainer.linux import call_text
from nbcontainer.linux.files import RESOLVE_IN_ROOT, TIOCSWINSZ
from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.mounts import AT_FDCWD, MOUNT_ATTR_RDONLY, MS_BIND, MS_NODEV, MS_NOSUID, MS_REC
from nbcontainer.linux.namespaces import CLONE_NEWNS, CLONE_NEWPID
from nbcontainer.linux.process import PR_SET_NO_NEW_PRIVS, capability_mask


def test_every_call_of_the_kernel_has_a_text() -> None:
    """A new method of `Kernel` fails here until it has one, and none is left of a method that is gone."""
    assert set(call_text.NAMES) == {name for name in dir(Kernel) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("name", "args", "keywords", "texts"),
    [
        ("mount", ["a", "b", None, MS_BIND | MS_REC, None], {}, ['mount("a", "b", NULL, MS_BIND|MS_REC, NULL)']),
        (
            "ioctl",
            [3, TIOCSWINSZ, {"text": "\x18\0\x50\0\0\0\0\0", "bytes": 8}],
            {},
            ["ioctl(3, TIOCSWINSZ, {ws_row=24, ws_col=80, ws_xpixel=0, ws_ypixel=0})"],
        ),
        (
            "mount",
            ["tmpfs", "s", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m"],
            {},
            ['mount("tmpfs", "s", "tmpfs", MS_NOSUID|MS_NODEV, "size=1m")'],
        ),
        (
            "mount_setattr",
            [AT_FDCWD, "x", 0],
            {"attr_set": MOUNT_ATTR_RDONLY},
            [
                'mount_setattr(AT_FDCWD, "x", 0, '
                "{attr_set=MOUNT_ATTR_RDONLY, attr_clr=0, propagation=0, userns_fd=0}, 32)"
            ],
        ),
        ("open", ["f", os.O_RDONLY | os.O_CLOEXEC], {}, ['openat(AT_FDCWD, "f", O_RDONLY|O_CLOEXEC)']),
        (
            "open",
            ["f", os.O_WRONLY | os.O_CREAT, 0o644],
            {"dir_fd": 5},
            ['openat(5, "f", O_WRONLY|O_CREAT, 0644)'],
        ),
        (
            "openat2",
            [4, "/etc", os.O_PATH | os.O_CLOEXEC],
            {"resolve": RESOLVE_IN_ROOT},
            ['openat2(4, "/etc", {flags=O_RDONLY|O_CLOEXEC|O_PATH, resolve=RESOLVE_IN_ROOT}, 24)'],
        ),
        ("mkdir", ["d", 0o700], {}, ['mkdir("d", 0700)']),
        ("mkdir", ["d", 0o700], {"dir_fd": 3}, ['mkdirat(3, "d", 0700)']),
        (
            "clone",
            [CLONE_NEWNS | CLONE_NEWPID],
            {},
            ["clone(child_stack=NULL, flags=CLONE_NEWNS|CLONE_NEWPID|SIGCHLD)"],
        ),
        ("prctl", [PR_SET_NO_NEW_PRIVS, 1], {}, ["prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"]),
        (
            "drop_bounding",
            [capability_mask(("CHOWN", "DAC_READ_SEARCH")), 3],
            {},
            ["prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)", "prctl(PR_CAPBSET_DROP, CAP_FOWNER)"],
        ),
        (
            "setrlimit",
            [7, [4096, -1]],
            {},
            ["prlimit64(0, RLIMIT_NOFILE, {rlim_cur=4*1024, rlim_max=RLIM64_INFINITY}, NULL)"],
        ),
        ("write", [3, {"text": 'a"\n\x00', "bytes": 4}], {}, ['write(3, "a\\"\\n\\0", 4)']),
        ("write", [3, {"text": "abc", "bytes": 100}], {}, ['write(3, "abc"..., 100)']),
        (
            "close_all_but",
            [[4, 6]],
            {},
            ["close_range(3, 3, 0)", "close_range(5, 5, 0)", "close_range(7, 4294967295, 0)"],
        ),
        ("last_capability", [], {}, []),
    ],
)
def test_a_call_is_written_as_strace_writes_it(
    name: str, args: list[Any], keywords: dict[str, Any], texts: list[str]
) -> None:
    """Names of flags, null pointers, modes in octal, and escaped strings."""
    assert call_text.system_calls(name, args, keywords) == texts


def test_the_values_of_variables_are_left_out() -> None:
    """An environment may hold secrets, and an explanation is shown and saved."""
    texts = call_text.system_calls("posix_spawn", ["/bin/sh", ["sh", "-c", "x"], {"TOKEN": "secret"}], {"setsid": True})
    assert texts[-1] == 'execve("/bin/sh", ["sh", "-c", "x"], /* 1 vars */)'


@pytest.mark.parametrize(
    ("text", "page"),
    [("mount(NULL)", "mount"), ("openat(3)", "open"), ("newfstatat", "stat"), ("prlimit64(0)", "getrlimit")],
)
def test_each_call_has_a_man_page(text: str, page: str) -> None:
    """By the name of the page, which is not always the call's own."""
    assert call_text.manual_page(text) == f"https://man7.org/linux/man-pages/man2/{page}.2.html"
