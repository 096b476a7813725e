"""Functions of this package's in a sandbox: what they see, and how their errors come back."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import HostileArchive, SandboxError
from nbcontainer.sandbox import sandboxed_call
from nbcontainer.sandbox.spec import Directory
from tests.linux import faulty
from tests.running import all_dead, descendants, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine

    Call = Callable[..., Any]


@pytest.fixture
def call(engine: Engine) -> Call:
    """Calls a function of `faulty` with a directory of the store's, which has one file, as its root."""
    engine.launcher.connection.preload += (faulty.__name__,)
    folder = engine.store.new_directory(engine.store.path / "tmp" / engine.store.unique())
    (folder / "here").touch()
    root = Directory(str(folder.relative_to(engine.store.path)))

    def made(function: Callable[..., Any], files: tuple[int, ...] = (), **arguments: Any) -> Any:
        return sandboxed_call.call(engine.launcher, function, root, files, **arguments)

    return made


@pytest.mark.parametrize("value", [None, 0, "é\n", [1, [2]], {"a": None}, "x" * (1 << 20)], ids=lambda v: str(v)[:8])
def test_an_answer_comes_back(call: Call, value: object) -> None:
    """What the function returns is returned, of any length, and how far it is was told."""
    told: list[int] = []
    assert call(faulty.answer, progress=told.append, value=value) == value
    assert told[-1:] == [2]


def test_it_sees_one_directory(call: Call) -> None:
    """Its root is the directory it works on: no host, no /proc, no descriptors but those that it was given."""
    seen = call(faulty.look)
    assert (seen["root"], seen["cwd"], seen["uid"], seen["files"]) == (["here"], "/", 0, 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_an_oserror_comes_back(call: Call, code: int) -> None:
    """The errno, the class that goes with it, and the path are those of the original."""
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        call(faulty.fail, code=code, path="/some/where")
    assert (raised.value.errno, raised.value.filename) == (code, "/some/where")
    assert type(raised.value) is type(OSError(code, ""))


def test_an_error_of_this_package_comes_back(call: Call) -> None:
    """Its class, its message and its hint are those of the original."""
    with pytest.raises(HostileArchive) as raised:
        call(faulty.refuse)
    assert (raised.value.message, raised.value.hint) == ("it is hostile", "take another")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (faulty.vanish, "vanish ended without an answer; it may have run out of memory"),
        (faulty.break_down, "break_down failed: KeyError: 'a mistake'; please report it"),
    ],
)
def test_no_answer_is_an_error(call: Call, function: Callable[..., Any], problem: str) -> None:
    """Work that dies, or breaks in a way that nobody foresaw, is an error that names it."""
    with pytest.raises(SandboxError, match=problem):
        call(function)
    assert call(faulty.answer, value=1) == 1


def test_an_interrupt_ends_it_at_once(call: Call, engine: Engine) -> None:
    """A KeyboardInterrupt while it works comes out, and nothing of it is left running."""
    read, write = os.pipe()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(faulty.answer, progress=interrupt, value=1)

    def work_on() -> None:
        with pytest.raises(SandboxError):
            call(faulty.never_end, (write,))

    thread = threading.Thread(target=work_on)
    thread.start()
    assert os.read(read, 10) == b"begun\n"
    running = pidfds(descendants(engine.launcher.pid))
    engine.launcher.close()
    thread.join()
    assert all_dead(running)
    os.close(read)
    os.close(write)


def test_several_at_once(call: Call) -> None:
    """Threads that work at the same time each get their own answer."""
    found: dict[int, object] = {}

    def one(number: int) -> None:
        found[number] = call(faulty.answer, value=number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: number for number in range(6)}
