"""Outputs, images and other files that a person names where a cell could write: what is there when they are named.

A cell leaves links, pipes and devices in its volume. What is written there is a new file, what is read is the file that
was named, or each is refused with one line.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers import run as running
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.errors import ImageError, LinkRefused, UsageError
from nbcontainer.images.archives import loading
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.attacks.scene import Scene


@pytest.fixture
def terminal() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """A device of the host's that this user may write to, and what was written to it."""
    mine, theirs = os.openpty()
    os.set_blocking(mine, False)

    def read() -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(mine, 100)
        return b""

    yield os.ttyname(theirs), read
    os.close(mine)
    os.close(theirs)


OUTPUTS = {"commit": ("box", "made", "-o"), "export": ("box", "-o"), "save": ("busybox", "-o")}


@pytest.fixture
def box(scene: Scene) -> Iterator[None]:
    """A container to commit and to export."""
    run_script(scene.engine, "echo x > /file", name="box")
    yield
    scene.verb("rm", "box")


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("verb", OUTPUTS)
def test_no_link_of_a_cells_leads_an_output_elsewhere(
    verb: str, scene: Scene, terminal: tuple[str, Callable[[], bytes]]
) -> None:
    """A link to a device, a file, a pipe or to nothing, at an output's name, is replaced by the file."""
    device, written = terminal
    os.mkfifo(scene.folder / "pipe")
    targets = [device, f"{scene.secret}/key", "../secret/key", "../pipe", "../secret/new", "loop.tar", "/dev/full"]
    for number, target in enumerate(targets):
        name = "loop.tar" if target == "loop.tar" else f"{number}.tar"
        scene.leave(f'ln -s "{target}" {name}')
        assert name in scene.verb(verb, *OUTPUTS[verb], scene.data / name)
        facts = (scene.data / name).lstat()
        assert stat.S_ISREG(facts.st_mode)
        assert facts.st_size > 1000
    assert written() == b""
    assert scene.untouched
    assert not [name for name in os.listdir(scene.data) if not name.endswith(".tar")]


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("verb", OUTPUTS)
def test_an_output_waits_for_no_pipe_and_writes_to_no_device(verb: str, scene: Scene) -> None:
    """A pipe, a directory, and a device where a cell can make one, at an output's name is refused with one line."""
    scene.leave("mkfifo pipe; mkdir -p dir.tar/x")
    with contextlib.suppress(PermissionError):  # only root makes devices; the one of the null device stays what it is
        os.mknod(scene.data / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    refusals = {"pipe": "it is a pipe", "device": "it is a pipe"}
    if verb != "save":
        refusals["dir.tar"] = "Is a directory; name a file in it"
    for name, words in refusals.items():
        if (scene.data / name).exists():
            with pytest.raises(ImageError, match=words) as raised:
                scene.verb(verb, *OUTPUTS[verb], scene.data / name)
            assert "\n" not in str(raised.value)
    assert stat.S_ISFIFO((scene.data / "pipe").lstat().st_mode)
    assert os.listdir(scene.data / "dir.tar") == ["x"]


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("verb", OUTPUTS)
def test_no_link_leads_the_directory_of_an_output_elsewhere(verb: str, scene: Scene) -> None:
    """A cell's link in the place of the directory that an output is to be in is refused; a user's own is followed."""
    scene.leave('mkdir real; ln -s "$S" out; ln -s ../../secret real/out')
    for place in ("out", "real/out"):
        with pytest.raises(LinkRefused):
            scene.verb(verb, *OUTPUTS[verb], scene.data / place / "x.tar")
    assert scene.untouched
    scene.users_link("mine", "data/real")
    scene.verb(verb, *OUTPUTS[verb], scene.folder / "mine" / "x.tar")
    assert (scene.data / "real" / "x.tar").stat().st_size > 1000


LAYOUTS = {
    "blobs": "rm -r blobs; ln -s {0} blobs",
    "sha256": "rm -r blobs/sha256; ln -s {0} blobs/sha256",
    "a blob": 'for f in blobs/sha256/*; do rm $f; ln -s {0}/key "$f"; done',
    "a pipe as a blob": 'for f in blobs/sha256/*; do rm $f; mkfifo "$f"; done',
    "the mark": "rm oci-layout; ln -s {0}/key oci-layout",
    "the mark, a pipe": "rm oci-layout; mkfifo oci-layout",
    "the index": "rm index.json; ln -s {0}/key index.json",
    "the index, a pipe": "rm index.json; mkfifo index.json",
    "the directory": "cd ..; mv l gone; ln -s {0} l",
    "dangling": "rm -r blobs; ln -s {0}/new blobs",
}


@pytest.mark.parametrize("what", LAYOUTS)
def test_no_link_in_a_layout_leads_elsewhere(what: str, scene: Scene) -> None:
    """Images are saved into a directory by descriptor: a cell's links and pipes in it are replaced or refused."""
    target = scene.data / "l"
    scene.verb("save", "busybox", "-o", f"{target}/")
    scene.leave(f"cd l; {LAYOUTS[what].format(scene.secret)}")
    if what in ("a blob", "a pipe as a blob", "the mark", "the mark, a pipe"):
        scene.verb("save", "busybox", "-o", f"{target}/")
        assert all(
            stat.S_ISREG(path.lstat().st_mode) for path in target.rglob("*") if path.name not in ("blobs", "sha256")
        )
    else:
        with pytest.raises((ImageError, LinkRefused)) as raised:
            scene.verb("save", "busybox", "-o", f"{target}/")
        assert "\n" not in str(raised.value)
    assert scene.untouched


# What is read


@pytest.mark.parametrize("kind", ["link", "on the way", "pipe", "socket"])
def test_an_image_is_read_from_the_file_that_was_named(kind: str, scene: Scene) -> None:
    """A cell's link or pipe in the place of an image file is refused, by every command that reads one; none waits."""
    scene.verb("save", "busybox", "-o", scene.secret / "x.tar")
    name = {"on the way": "out/x.tar"}.get(kind, "x.tar")
    if kind == "socket":
        os.mknod(scene.data / "x.tar", stat.S_IFSOCK | 0o666)
    script = {"link": 'ln -s "$S/x.tar" x.tar', "on the way": 'ln -s "$S" out', "pipe": "mkfifo x.tar"}
    scene.leave(script.get(kind, "true"))
    wanted = ImageError if kind in ("pipe", "socket") else LinkRefused
    for verb in (("load",), ("import",), ("load", "-i")):
        with pytest.raises(wanted):
            scene.verb(*verb, scene.data / name)
    with pytest.raises(wanted):
        run_script(scene.engine, "true", image=str(scene.data / name))
    with pytest.raises(wanted):
        os.close(loading.open_file(scene.engine.store, scene.data / name))
    os.unlink(scene.secret / "x.tar")


@pytest.mark.parametrize("kind", ["link", "on the way", "pipe"])
def test_variables_are_read_from_the_file_that_was_named(kind: str, scene: Scene) -> None:
    """A cell's link as `--env-file` shows the next cell nothing of another file, and nothing waits for its pipe."""
    scripts = {"link": 'ln -s "$S/key" env', "on the way": 'ln -s "$S" out', "pipe": "mkfifo env"}
    scene.leave(scripts[kind])
    path = scene.data / ("out/key" if kind == "on the way" else "env")
    with pytest.raises(UsageError if kind == "pipe" else LinkRefused):
        shown(scene.engine, path)


@pytest.mark.parametrize("kind", ["link", "on the way", "pipe"])
def test_input_is_read_from_the_file_that_was_named(kind: str, scene: Scene) -> None:
    """A cell's link as `--stdin @FILE` shows the next cell nothing of another file, and nothing waits for its pipe."""
    scripts = {"link": 'ln -s "$S/key" answers', "on the way": 'ln -s "$S" out', "pipe": "mkfifo answers"}
    scene.leave(scripts[kind])
    path = scene.data / ("out/key" if kind == "on the way" else "answers")
    with pytest.raises(UsageError if kind == "pipe" else LinkRefused):
        read(scene.engine, path)


def read(engine: Engine, path: Path) -> None:
    """Runs a cell that reads a file as its input."""
    request = request_of(parse(RUN, [f"--stdin=@{path}", "busybox", "cat"]))
    running.run(engine, request, Streams(lambda _: None, lambda _: None))


def shown(engine: Engine, path: Path) -> None:
    """Runs a cell that shows what a file of variables says."""
    options = request_of(parse(RUN, ["--env-file", str(path), "busybox"])).options
    run_script(engine, "echo $NAME", env=options.process.env, links=options.process.links)
