"""`display` as an attacker uses it: nothing of the host is read, nothing waits, and no notebook ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import run as running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.options import run_options

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

ASK = (
    'D=/dev/nbcontainer; ask() { echo "display image/png $1 $2" >$D/channel; }; cd $D/shown; mkfifo -m 666 sign; '
    "exec 8<>sign; "  # an answer to a pipe that nothing has open is lost
)
WAIT = "; read -r x <&8; echo acknowledged"


class Page:
    """What a cell puts out and shows."""

    def __init__(self) -> None:
        self.data: list[tuple[str, bytes]] = []
        self.out = b""
        self.err = b""

    def stdout(self, data: bytes) -> None:
        self.out += data

    def stderr(self, data: bytes) -> None:
        self.err += data

    def shown(self, mime: str, data: bytes) -> None:
        self.data.append((mime, data))

    def cleared(self, wait: bool) -> None:
        pass


def attack(engine: Engine, script: str, **options: object) -> Page:
    """Runs an attacker's cell, which must end by itself."""
    page = Page()
    streams = Streams(page.stdout, page.stderr, display=page)
    request = Request("busybox", script=script, remove=True, options=run_options({"timeout": 60.0, **options}))
    running.run(engine, request, streams)
    return page


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's."""
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    return path


SHOWN = {
    "link": "ln -s {secret} x; ask x sign",
    "link to a process": "ln -s /proc/1/environ x; ask x sign",
    "pipe": "mkfifo x; ask x sign",
    "directory": "mkdir x; ask x sign",
    "path": "ask ../../../../{secret} sign",
    "absolute": "ask {secret} sign",
    "parent": "ask .. sign",
    "nothing": "ask x sign",
    "device": "mknod x c 1 3; ask x sign",
    "terminal codes": "ask \"$(printf 'a\\033[2Jb')\" sign",
    "the directory replaced": "cd $D; mv shown old; ln -s /etc shown; mkfifo -m 666 old/s; ask passwd sign; "
    "rm shown; mv old shown; cd shown; ask nothing sign",
}


@pytest.mark.parametrize("how", SHOWN)
def test_shown_data_is_the_containers_own_file(engine: Engine, secret: Path, how: str) -> None:
    """A link, a pipe, a path or anything else in place of the data is an error of the cell, and is not followed."""
    page = attack(engine, ASK + SHOWN[how].format(secret=secret) + WAIT)
    assert page.data == []
    assert page.out == b"acknowledged\n"
    assert b"cannot show" in page.err
    assert b"secret\n" not in page.err
    assert b"\033" not in page.err


SIGNS = {
    "link": "ln -s {secret} s; ask x s",
    "link to a pipe of the host": "ln -s {pipe} s; ask x s",
    "file": "echo old >s; ask x s",
    "path": "ask x ../../../..{secret}",
    "full pipe": "mkfifo -m 666 s; exec 7<>s; dd if=/dev/zero of=s bs=4096 count=16 2>/dev/null; ask x s",
}


@pytest.mark.parametrize("how", SIGNS)
def test_an_answer_goes_to_a_pipe_of_the_container_alone(
    engine: Engine, secret: Path, tmp_path: Path, how: str
) -> None:
    """A link or a file in place of the pipe for the answer gets none, and a full pipe is not waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    kept = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    page = attack(engine, ASK + "echo 1 >x; " + SIGNS[how].format(secret=secret, pipe=pipe) + "; ask x sign" + WAIT)
    assert page.out == b"acknowledged\n"
    assert [data for _, data in page.data] == [b"1\n"] * 2
    assert secret.read_text() == "secret"
    with pytest.raises(BlockingIOError):
        os.read(kept, 1)
    os.close(kept)


@pytest.mark.parametrize(
    "before",
    [
        "rm $D/channel; ln -s /etc/passwd $D/channel",
        "rm $D/channel; echo display >$D/channel",
        "rm -r $D",
        "(cd /; mv /dev/nbcontainer /dev/other)",
    ],
)
def test_a_channel_that_is_replaced_ends_no_notebook(engine: Engine, before: str) -> None:
    """If the container replaces the pipe, the notebook refuses it in one line or never sees it; the next cell works."""
    wake = "exec 8<>$D/channel; "  # a line through the old pipe wakes init
    with_error = ""
    try:
        attack(engine, f"D=/dev/nbcontainer; {wake}{before}; echo 'display image/png x y' >&8; sleep 0.2")
    except Exception as error:  # of this package, in one line
        with_error = f"{type(error).__module__}: {error}"
    assert not with_error or "nbcontainer.errors: the container changed /dev/nbcontainer/channel" in with_error
    assert attack(engine, "echo next").out == b"next\n"


def test_signals_and_noise_do_not_stop_a_cell(engine: Engine) -> None:
    """SIGIO to init, half lines, endless lines and unknown lines change nothing of a cell."""
    noise = "for i in $(seq 50); do kill -IO 1; printf x >$D/channel; printf '\\377\\0 %d\\n' $i >$D/channel; done; "
    noise += "head -c 300000 /dev/zero | tr '\\0' y >$D/channel; echo >$D/channel; "
    page = attack(engine, ASK + noise + "echo 1 >x; ask x sign" + WAIT)
    assert page.out == b"acknowledged\n"
    assert page.data == [("image/png", b"1\n")]
