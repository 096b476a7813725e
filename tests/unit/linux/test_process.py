"""Capabilities as masks, and descriptors closed by ranges."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux import process
from nbcontainer.linux.process import CAPABILITIES, capability_mask, find_program

if TYPE_CHECKING:
    from collections.abc import Callable


def in_a_child(act: Callable[[], object]) -> int:
    """The exit code of a forked child that does `act`: 0, or 1 where it raised."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def my_descriptors() -> set[int]:
    found = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208
    return {fd for fd in found if fd > 2 and Path(f"/proc/self/fd/{fd}").exists()}


@pytest.mark.parametrize(
    ("names", "mask"),
    [((), 0), (("CHOWN",), 1), (("KILL",), 1 << 5), (("CHOWN", "CHOWN"), 1), (("CHECKPOINT_RESTORE",), 1 << 40)],
)
def test_names_are_bits(names: tuple[str, ...], mask: int) -> None:
    """Each name is the bit of its number in <linux/capability.h>."""
    assert capability_mask(names) == mask


def test_an_unknown_name_is_no_capability() -> None:
    """A name that the kernel does not have is a ValueError, not a silent nothing."""
    with pytest.raises(ValueError, match="not in list"):
        capability_mask(("CHOWN", "EVERYTHING"))


def test_the_list_is_as_long_as_the_kernels() -> None:
    """This kernel has no capability beyond those that have names here, or it is newer than they are."""
    assert len(CAPABILITIES) == 41
    assert process.last_capability() >= 36


@pytest.mark.parametrize("keep", [(), (0,), (1,), (0, 1), (3, 2)], ids=str)
def test_all_but_the_kept_are_closed(keep: tuple[int, ...]) -> None:
    """Descriptors from 3 up are closed but for those that are kept, in any order and any place."""
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
    kept = tuple(fds[number] for number in keep)

    def act() -> None:
        process.close_all_but(kept)
        assert my_descriptors() == set(kept)
        os.fstat(0)

    assert in_a_child(act) == 0
    for fd in fds:
        os.close(fd)


def test_standard_descriptors_may_be_named_among_the_kept() -> None:
    """0, 1 and 2 are never closed, named or not."""

    def act() -> None:
        process.close_all_but((0, 1, 2))
        for fd in (0, 1, 2):
            os.fstat(fd)
        assert my_descriptors() == set()

    assert in_a_child(act) == 0


def test_descriptors_are_marked_and_stay_open() -> None:
    """Close-on-exec is set from a number up, and nothing is closed yet: a failed exec can still report."""
    low, high = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)

    def act() -> None:
        for fd in (low, high):
            os.set_inheritable(fd, True)
        process.cloexec_from(high)
        assert os.get_inheritable(low)
        assert not os.get_inheritable(high)

    assert in_a_child(act) == 0
    os.close(low)
    os.close(high)


def test_a_process_has_its_name() -> None:
    """What ps shows is set, and cut at 15 bytes."""

    def act() -> None:
        process.set_name("a name that is longer than 15")
        assert Path("/proc/self/comm").read_text() == "a name that is \n"

    assert in_a_child(act) == 0


@pytest.mark.parametrize("text", ["another", "x" * 100_000])
def test_a_process_has_its_arguments(text: str) -> None:
    """What ps shows as arguments is set, cut at the length that they had, and nothing of the old ones is left."""

    def act() -> None:
        before = Path("/proc/self/cmdline").read_bytes()
        process.set_command_line(text)
        after = Path("/proc/self/cmdline").read_bytes()
        assert after.rstrip(b"\0") == text.encode()[: len(before) - 1]

    assert in_a_child(act) == 0


def test_no_new_privileges_is_for_good() -> None:
    """prctl(2) sets it, /proc says so, and it cannot be taken back."""

    def act() -> None:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        assert "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()
        with pytest.raises(OSError, match="prctl"):
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 0)

    assert in_a_child(act) == 0


def test_capabilities_can_be_given_up() -> None:
    """capset(2) with empty sets leaves none, whoever this is."""

    def act() -> None:
        process.clear_ambient()
        process.capset(0, 0, 0)
        status = Path("/proc/self/status").read_text()
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert f"{name}:\t0000000000000000" in status

    assert in_a_child(act) == 0


def test_more_capabilities_than_there_are_is_refused() -> None:
    """What the process does not have permitted cannot be made effective."""

    def act() -> None:
        process.capset(0, 0, 0)
        with pytest.raises(PermissionError):
            process.capset(1, 1, 0)

    assert in_a_child(act) == 0


def test_a_child_dies_with_its_parent() -> None:
    """PR_SET_PDEATHSIG: a child that would wait for ever ends when its parent does."""
    import signal

    alive, hold = os.pipe()

    def parent() -> None:
        ready, told = os.pipe()
        if os.fork() == 0:
            process.set_pdeathsig(signal.SIGKILL)
            os.write(told, b"x")
            signal.pause()
        os.read(ready, 1)

    assert in_a_child(parent) == 0
    os.close(hold)
    assert os.read(alive, 1) == b"", "the grandchild still holds the pipe"
    os.close(alive)
    assert sys.platform == "linux"


def test_no_program_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container can have left one in the notebook's directory, which relative parts of PATH lead to."""
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "planted").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    for path in (".", "", "bin", f"/nowhere:{os.pathsep}./bin"):
        monkeypatch.setenv("PATH", path)
        assert find_program("planted") is None
        assert find_program("planted", path) is None
    monkeypatch.setenv("PATH", f".:{tmp_path}/bin")
    assert find_program("planted") == f"{tmp_path}/bin/planted"
