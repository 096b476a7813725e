"""A container that wants to change what another one has left, after that has ended."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import run
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from nbcontainer.containers.writes import keeping
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.runs.value_exchange import connect
from nbcontainer.values import received
from nbcontainer.values.exchange import Exchange
from tests.attacks.descriptors import SEND_DESCRIPTOR
from tests.notebook.shell_cells import wait_for
from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HANDS = (
    SEND_DESCRIPTOR
    + r"""
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un place = {AF_UNIX};
static socklen_t size;

static int hand_on(int fd, const char *directory) {
    char text;
    int root = open(directory, O_RDONLY | O_DIRECTORY);
    while (connect(fd, (struct sockaddr *)&place, size) < 0) {
        if (errno != ENOENT && errno != ECONNREFUSED)
            return 1;
        usleep(1000);
    }
    return send_descriptor(fd, root) || read(fd, &text, 1) < 0;
}

static void change(int root) {
    static int number; /* half of the names are there at each moment */
    char name[16];
    number = (number + 1) % 500;
    sprintf(name, "some%d", number);
    if (number % 2)
        close(openat(root, name, O_CREAT | O_WRONLY, 0600));
    else
        mkdirat(root, name, 0700);
    sprintf(name, "some%d", (number + 250) % 500);
    unlinkat(root, name, 0);
    unlinkat(root, name, AT_REMOVEDIR);
}

static int take(int fd, const char *files, int busy) {
    char text, control[CMSG_SPACE(sizeof fd)];
    struct iovec part = {&text, 1};
    struct msghdr message = {0, 0, &part, 1, control, sizeof control, 0};
    int peer, root = -1, file;
    if (bind(fd, (struct sockaddr *)&place, size) || listen(fd, 1) || (peer = accept(fd, 0, 0)) < 0)
        return 1;
    if (recvmsg(peer, &message, 0) < 0 || !CMSG_FIRSTHDR(&message))
        return 2;
    memcpy(&root, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof root);
    close(peer); /* the other one ends now */
    if (chdir(files))
        return 3;
    while (access("go", F_OK))
        if (busy)
            change(root);
        else
            usleep(1000);
    file = openat(root, "kept", O_WRONLY | O_APPEND);
    if (file < 0 || write(file, "planted\n", 8) != 8)
        return 4;
    return 0;
}

int main(int argc, char **argv) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(place.sun_path, argv[2]);
    size = offsetof(struct sockaddr_un, sun_path) + strlen(argv[2]) + (argv[2][0] != '@');
    if (argv[2][0] == '@')
        place.sun_path[0] = 0;
    return argv[1][0] == 'h' ? hand_on(fd, argv[3]) : take(fd, argv[3], argv[1][0] == 'b');
}
"""
)
"""`hands hand SOCKET DIRECTORY` hands a descriptor of the directory on, and waits until it is taken. `hands take SOCKET
FILES` takes one, waits until there is a file `go` in FILES, and then writes to the file `kept` below the descriptor;
with `busy` in place of `take`, it makes and removes files and directories there meanwhile."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `hands`, in a directory for all."""
    require("gcc")
    place = tmp_path_factory.mktemp("hands")
    command = ["gcc", "-static", "-x", "c", "-o", str(place / "hands"), "-"]
    subprocess.run(command, input=HANDS.encode(), check=True)
    place.chmod(0o755)
    return place / "hands"


@pytest.fixture
def shared(tmp_path: Path, program: Path) -> Path:
    """A directory that two containers share, with the program in it."""
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / "hands").hardlink_to(program)
    directory.chmod(0o777)
    return directory


def ran(engine: Engine, image: str, script: str, **options: Any) -> tuple[int | None, list[str]]:
    """The exit status of a cell with these options of `run`, and its output in words."""
    out: list[bytes] = []
    _, outcome = run.run(engine, request_of_keywords(image, (), script, options), Streams(out.append, out.append))
    return outcome.exit_code, b"".join(out).decode().split()


@contextlib.contextmanager
def taker(engine: Engine, shared: Path, socket: str, does: str = "take", **options: Any) -> Iterator[list[int | None]]:
    """A container that takes a descriptor. At the end of the block, it writes to it; its exit status is in the list."""
    status: list[int | None] = []

    def take() -> None:
        script = f"exec /mnt/hands {does} {socket} /mnt"
        status.append(ran(engine, "busybox", script, volumes=[f"{shared}:/mnt"], timeout=DEADLINE, **options)[0])

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield status
    finally:
        (shared / "go").touch()
        thread.join()


@dataclass(frozen=True)
class Way:
    """How two containers come to share a socket, at `socket`: the options of the one that hands on, and of the other.

    The first one has `directory` and hands a descriptor of that on. It is a cell, or with `job` a job.
    """

    socket: str
    giver: dict[str, Any] = field(default_factory=dict)
    taker: dict[str, Any] = field(default_factory=dict)
    directory: str = "/"
    job: bool = False


ABSTRACT = "@nbcontainer-hands"
WAYS = {
    "a volume": Way("/mnt/socket", {"volumes": ["{shared}:/mnt"]}),
    "a copy-on-write volume": Way("/mnt/socket", {"volumes": ["{shared}:/mnt", "{mine}:/mine:cow"]}, directory="/mine"),
    "the network of the host": Way(ABSTRACT, {"network": "host"}, {"network": "host"}),
    "the network of a job": Way(ABSTRACT, taker={"network": "container:left"}, job=True),
}


@pytest.mark.parametrize("careless", [True, False], ids=["without the look", "with it"])
@pytest.mark.parametrize("name", WAYS)
def test_what_a_container_left_stays_as_it_was_at_its_end(
    engine: Engine, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, careless: bool
) -> None:
    """A container hands a descriptor of its root to one that runs on, which writes to it later.

    The layer that was kept does not change. If nothing looked whether the overlay exists still, it would.
    """
    if careless:
        monkeypatch.setattr(keeping, "is_held", lambda *_: False)
    way = WAYS[name]
    (tmp_path / "mine").mkdir()
    volumes = [text.format(shared=shared, mine=tmp_path / "mine") for text in way.giver.get("volumes", ())]
    options = {**way.giver, "volumes": volumes}
    ran(engine, "busybox", "cp /mnt/hands /bin/hands", name="left", volumes=[f"{shared}:/mnt"])
    script = f"echo mine > {way.directory}/kept; exec hands hand {way.socket} {way.directory}"
    job = start(engine, Request("", "left", script=script)) if way.job else None
    with taker(engine, shared, way.socket, **way.taker) as status:
        ended = ran(engine, "", script, name="left", **options)[0] if job is None else job.wait().exit_code
        assert ended == 0
    _, found = ran(engine, "", f"cat {way.directory}/kept", name="left", **options)
    get(engine, "left").remove()
    assert found == (["mine", "planted"] if careless else ["mine"])
    assert status == [0] or not careless
    assert not left(engine)


def test_a_holder_that_changes_files_while_they_are_copied_destroys_nothing_else(engine: Engine, shared: Path) -> None:
    """What it removes between the listing and the copy is left out, and the rest is kept."""
    script = "for number in $(seq 300); do echo $number > /file$number; done; echo mine > /kept"
    with taker(engine, shared, "/mnt/socket", "busy") as status:
        script = f"{script}; exec /mnt/hands hand /mnt/socket /"
        assert ran(engine, "busybox", script, name="busy", volumes=[f"{shared}:/mnt"])[0] == 0
    _, found = ran(engine, "", "cat /kept; cat /file* | wc -l", name="busy")
    get(engine, "busy").remove()
    assert found == ["mine", "300"]
    assert status == [0]
    assert not left(engine)


@pytest.mark.parametrize("careless", [True, False], ids=["without the copy", "with it"])
def test_a_value_is_read_as_it_was(
    engine: Engine, shared: Path, monkeypatch: pytest.MonkeyPatch, careless: bool
) -> None:
    """A container hands its `/out` on. A file of that which grows while its value is read fills no memory.

    If the value were not a copy, it would have more than the file had when its size was compared with the limit.
    """
    request = request_of_keywords(
        "busybox", (), "echo mine > /out/kept; exec /mnt/hands hand /mnt/socket /out", {"volumes": [f"{shared}:/mnt"]}
    )
    decoded = received.decoded
    with Exchange({}, output=True) as exchange, taker(engine, shared, "/mnt/socket") as status:
        streams = Streams(lambda _: None, lambda _: None)
        connect(exchange, request.options, streams)
        _, outcome = run.run(engine, replace(request, remove=True), streams)
        assert outcome.ok
        assert exchange.shared
        exchange.shared = not careless

        def late(file: BinaryIO, name: str) -> object:
            """Read the value when the other container has written to it."""
            (shared / "go").touch()
            wait_for(lambda: status)
            return decoded(file, name)

        monkeypatch.setattr(received, "decoded", late)
        value = exchange.get({"value": "kept"})["value"]
    assert status == [0]
    assert value == (b"mine\nplanted\n" if careless else b"mine\n")


def settle(engine: Engine) -> None:
    """Waits until the background has removed what it removes in steps."""
    for _ in range(3):
        engine.background.wait()


def left(engine: Engine) -> list[str]:
    """All that a look or a copy has made, and what cells have written, in the store and in its memory."""
    settle(engine)
    places = [engine.store.path / "tmp", engine.store.memory]
    names = ("second", "third", "copy", "held", "kept", "index")
    return [str(path) for place in places for path in place.rglob("*") if path.name in names]


@contextlib.contextmanager
def crowded(engine: Engine) -> Iterator[None]:
    """Let each container that is not alone look whether another one holds its layer."""
    engine.store.sharing.begin()
    try:
        yield
    finally:
        engine.store.sharing.end()


def test_a_layer_that_no_container_holds_is_not_copied(engine: Engine, shared: Path, tmp_path: Path) -> None:
    """It moves to the layers of the store, with its files, though another container could hold it."""
    (tmp_path / "mine").mkdir()
    volumes = [f"{shared}:/mnt", f"{tmp_path}/mine:/mine:cow"]
    script = "for place in / /mine; do echo > $place/kept; stat -c %i $place/kept; done"
    with crowded(engine):
        _, before = ran(engine, "busybox", script, name="moved", volumes=volumes)
    assert ran(engine, "", "stat -c %i /kept /mine/kept", name="moved", volumes=volumes) == (0, before)
    get(engine, "moved").remove()
    assert not left(engine)


@pytest.mark.parametrize("image", ["busybox", "host"])
def test_each_overlay_is_looked_for(engine: Engine, shared: Path, monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    """Also those that nothing was written to: what is empty at the end could be filled later."""
    probed: list[str] = []
    suffixes: list[tuple[str, ...]] = []
    second = WriteLayer.second_overlay

    def noting(upper: WriteLayer, suffix: str) -> contextlib.AbstractContextManager[tuple[str, str, str, str]]:
        probed.append(suffix)
        suffixes.append(upper.suffixes)
        return second(upper, suffix)

    monkeypatch.setattr(WriteLayer, "second_overlay", noting)
    with crowded(engine):
        ran(engine, image, "echo > /tmp/kept", name="looked", volumes=[f"{shared}:/mnt"])
    assert tuple(probed) == suffixes[0]
    assert ran(engine, "", "ls /tmp/kept", name="looked")[0] == 0
    get(engine, "looked").remove()
    assert not left(engine)


def test_an_empty_layer_of_a_container_that_runs_is_held(engine: Engine) -> None:
    """The look does not go by what the layer has at that moment, and its answer is another one when that has ended."""
    job = start(engine, Request("busybox", "held", script="exec sleep 1000"))
    upper = job.container.upper
    assert isinstance(upper, WriteLayer)
    assert not upper.filled()
    other = WriteLayer(engine.store, engine, upper.lowers)
    other.make()
    with crowded(engine):
        with upper.second_overlay("") as places:
            assert engine.launcher.has_overlay(*places)
        with other.second_overlay("") as places:
            assert not engine.launcher.has_overlay(*places)
        assert keeping.is_held(upper, engine.launcher)
        assert not keeping.is_held(other, engine.launcher)
    other.remove()
    job.kill()
    job.join()
    job.container.remove()


COPIED = """
cd {place}
mkdir -p dir/below closed; echo text > dir/file; ln dir/file dir/second; ln -s file dir/link; mkfifo dir/pipe
ln -s /diff/dir/file dir/s1; ln dir/s1 dir/s2; ln -s /nowhere dir/s3; ln dir/s3 dir/below/s4
chmod 4751 dir/file; chmod 1770 dir/below; chmod 0 closed; chown 1:2 dir/pipe; rm -rf {removed}
truncate -s 3M dir/sparse; echo end >> dir/sparse
touch -d '2001-02-03 04:05:06' dir/file dir/below; touch -h -d '2002-02-02 02:02:02' dir/link
"""
LISTED = "cd {place}; find . -mindepth 1 -print0 | sort -z | xargs -0 stat -c '%n %f %u %g %s %h %y'"


@pytest.mark.parametrize("volume", [False, True], ids=["the root", "a volume"])
def test_a_copy_is_like_what_was_written(
    engine: Engine, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: bool
) -> None:
    """With owners, modes, links, holes and times, and with what was removed from the layers below."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gone").write_text("gone")
    place, removed = ("/mine", "/mine/gone") if volume else ("/srv", "/home")
    volumes = [f"{shared}:/mnt", f"{tmp_path}/mine:/mine:cow"]
    listed = LISTED.format(place=place)
    script = f"mkdir -p {place}; {COPIED.format(place=place, removed=removed)}\n{listed}"
    monkeypatch.setattr(keeping, "is_held", lambda *_: True)
    _, before = ran(engine, "busybox", script, name="copied", volumes=volumes)
    monkeypatch.undo()
    _, after = ran(engine, "", f"{listed}; ls {removed}", name="copied", volumes=volumes)
    assert before
    assert after[: len(before)] == before
    assert " ".join(after[len(before) :]).endswith("No such file or directory")
    get(engine, "copied").remove()
    assert not left(engine)


def test_a_limited_layer_is_copied_without_a_look(engine: Engine, shared: Path) -> None:
    """It is in memory that ends with the container, so it is a copy in every case, and nothing is left of a look."""
    with crowded(engine):
        options = {"volumes": [f"{shared}:/mnt"], "storage": "10m"}
        assert ran(engine, "busybox", "echo > /kept", name="limited", **options) == (0, [])
    assert ran(engine, "", "ls /kept", name="limited") == (0, ["/kept"])
    get(engine, "limited").remove()
    assert not left(engine)


def test_a_layer_in_memory_moves(store_path: Path, shared: Path, engine: Engine) -> None:
    """The look works where the write layers are in another file system than the store."""
    with contextlib.closing(Engine(store_path)) as own, crowded(own):
        own.store.use_memory()
        script = "echo >> /kept; stat -c %i /kept"
        _, before = ran(own, "busybox", script, name="memory", volumes=[f"{shared}:/mnt"])
        assert ran(own, "", "stat -c %i /kept", name="memory", volumes=[f"{shared}:/mnt"]) == (0, before)
        get(own, "memory").remove()
        assert not left(own)
