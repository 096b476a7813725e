"""What an engine does in the background, and when."""

from __future__ import annotations

import contextlib
import gc
import os
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import cleanup
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.active import ActiveCell, running_containers
from nbcontainer.containers.cleanup import prune, sweep
from nbcontainer.containers.commit import commit
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ImageError, ImageNotFound, NbcontainerError, UsageError
from nbcontainer.images.library import NEVER
from nbcontainer.linux.procfs import birth
from nbcontainer.store import sessions
from tests.running import DEADLINE, Ran, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.steps.base import Step


def test_what_is_held_is_done_later_in_its_order(store_path: Path) -> None:
    """Between `hold` and `go_on` nothing is done in the background; then all of it, in the order it came."""
    done: list[int] = []
    with contextlib.closing(Engine(store_path)) as engine:
        engine.background.hold()
        engine.background.hold()
        for number in range(3):
            engine.later(lambda number=number: done.append(number))  # type: ignore[misc]
        assert done == []
        engine.background.release()
        engine.background.wait()
        assert done == [0, 1, 2]
        engine.background.release()


def test_an_engine_that_is_closed_forgets_nothing(store_path: Path) -> None:
    """What was held when the notebook ends is done before the engine is closed."""
    done: list[str] = []
    engine = Engine(store_path)
    engine.background.hold()
    engine.later(lambda: done.append("held"))
    engine.close()
    assert done == ["held"]
    engine.background.hold()
    engine.later(lambda: done.append("after"))
    engine.close()
    assert done == ["held"]


def test_waiting_for_the_background_ends_the_hold(store_path: Path) -> None:
    """Who waits for what was given to the background gets it done, held or not."""
    done: list[str] = []
    with contextlib.closing(Engine(store_path)) as engine:
        engine.background.hold()
        engine.later(lambda: done.append("held"))
        engine.background.wait()
        assert done == ["held"]


@pytest.mark.parametrize("output", ["none/x.tar", "x.tar.xz"])
def test_a_commit_to_a_file_that_cannot_be_written_makes_no_image(engine: Engine, tmp_path: Path, output: str) -> None:
    """`commit -o` looks at the file first."""
    name = run_script(engine, "echo > /file").container.name
    parsed = parse(VERBS["commit"].command, [name, "unmade", "-o", str(tmp_path / output)])
    with pytest.raises((ImageError, UsageError)):
        VERBS["commit"].answer(Invocation(engine, parsed))
    with pytest.raises(ImageNotFound):
        engine.images.find("unmade", pull=NEVER)


def test_a_running_container_is_committed_from_elsewhere(store_path: Path, engine: Engine, tmp_path: Path) -> None:
    """Another process's engine makes an image of what a cell has written so far, and exports it; it goes on."""
    elsewhere = Engine(store_path)
    done: list[str] = []

    def verb(name: str, *words: str) -> str:
        chosen = VERBS[name]
        return str(chosen.run(Invocation(elsewhere, parse(chosen.command, list(words)))))

    def hear(data: bytes) -> None:
        (name,) = (name for name, cell in running_containers(elsewhere.store).items() if "so far" in cell.command)
        done.append(verb("commit", name, "so-far"))
        done.append(verb("diff", name))
        done.append(verb("export", name, "-o", str(tmp_path / "so-far.tar")))
        Path(volume, "go").touch()

    volume = tmp_path / "volume"
    volume.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    script = "echo so far > /made; echo ready; until [ -e /v/go ]; do sleep 0.05; done; cat /made"
    ran = run_script(engine, script, stdout=hear_once(hear), volumes=(parse_volume(f"{volume}:/v:ro"),))
    assert ran.outcome.ok
    assert "A       /made" in done[1].splitlines()
    with tarfile.open(tmp_path / "so-far.tar") as tar:
        assert "made" in tar.getnames()
    assert run_script(elsewhere, "cat /made", image="so-far").text == "so far"
    elsewhere.close()


def hear_once(hear: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Has a sink hear the first thing that a cell says, and nothing more."""
    heard: list[bytes] = []

    def sink(data: bytes) -> None:
        heard.append(data)
        if len(heard) == 1:
            hear(data)

    return sink


def test_a_fork_of_the_notebook_ends_nothing_of_it(store_path: Path) -> None:
    """A child that a notebook has forked (os.fork, a daemon) and that ends in order leaves all that is the parent's."""
    own = Engine(store_path)
    try:
        assert run_script(own, "echo before").text == "before"
        own.background.wait()
        here = sorted((store_path / "tmp").iterdir())
        if (pid := os.fork()) == 0:
            own.close()  # as atexit does
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert sorted((store_path / "tmp").iterdir()) == here
        assert own.store.session in own.store.sessions.alive()
        assert run_script(own, "echo after").text == "after"
    finally:
        own.close()


def test_nothing_is_left_of_an_engine_that_closes_at_once(store_path: Path) -> None:
    """Whatever is being made ahead at that moment goes, too."""
    for _ in range(10):
        own = Engine(store_path)
        run_script(own, "true")
        own.close()
        assert [path for path in (store_path / "tmp").iterdir() if path.name.startswith(own.store.session)] == []


@pytest.fixture
def orders(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, list[bool]]]:
    """An engine, and for each container that it orders ahead whether that prefaults."""
    with contextlib.closing(Engine(store_path)) as engine:
        orders: list[bool] = []
        order = engine.launcher.order

        def note(steps: tuple[Step, ...], *, prefault: bool = True, **more: Any) -> None:
            orders.append(prefault)
            order(steps, prefault=prefault, **more)

        monkeypatch.setattr(engine.launcher, "order", note)
        yield engine, orders


def test_cells_that_come_without_a_pause_have_no_container_beside_those_for_them(
    orders: tuple[Engine, list[bool]],
) -> None:
    """If the next cell has come before its containers are made, only those are made, and none of them prefaults."""
    engine, made = orders

    def release(_: bytes) -> None:
        engine.background.wait()
        assert made == [False, False]
        engine.background.hold()  # after this cell there is a pause, and a container with only a root is made

    engine.background.hold()
    run_script(engine, "true")
    assert run_script(engine, "echo x", stdout=hear_once(release)).outcome.ok
    assert made == [False, False]


def test_what_the_last_cell_asks_for_takes_the_place_of_the_rest(orders: tuple[Engine, list[bool]]) -> None:
    """If several cells have ended before containers are made for the next, they are made once."""
    engine, made = orders
    with engine.background.held():
        for _ in range(5):
            run_script(engine, "true")
    engine.background.wait()
    assert made == [True, True, True]


def test_a_cell_of_another_thread_holds_nothing_after_the_engine_is_closed(store_path: Path) -> None:
    """The cell ends with its engine, and then no descriptor of it is open, though the background has ended."""
    gc.collect()
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    own, begun = Engine(store_path), threading.Event()

    def run() -> None:
        with contextlib.suppress(NbcontainerError):
            run_script(own, "echo up; sleep 1000", stdout=lambda _: begun.set())

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(DEADLINE)
    own.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    gc.collect()
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


def _made(engine: Engine) -> Image:
    """An image `inuse` with the file /data/file, whose container is gone."""
    run_script(engine, "mkdir /data; echo x > /data/file", name="made")
    image = commit(containers.get(engine, "made"), "inuse")
    containers.get(engine, "made").remove()
    return image


def test_an_image_that_only_a_running_cell_uses_stays_until_its_end(
    store_path: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An anonymous container has no record at first: its image may lose its name, and the cell keeps its files."""
    monkeypatch.setattr(sessions, "_SETTLED", -1.0)  # a store in which nothing changes for a moment is marked at once
    image = _made(engine)
    ended: list[Ran] = []
    (tmp_path / "volume").mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    script = "until [ -e /v/done ]; do sleep 0.01; done; cat /data/file"
    volumes = (parse_volume(f"{tmp_path}/volume:/v:ro"),)
    cell = threading.Thread(target=lambda: ended.append(run_script(engine, script, image="inuse", volumes=volumes)))
    cell.start()
    with contextlib.closing(Engine(store_path)) as other:
        while not running_containers(other.store):
            time.sleep(0.001)
        other.store.index.drop_image("inuse")
        prune(other)
        sweep(other)
        assert other.store.blobs.path(image.digest).exists()
        assert not sessions.CleanMark(other.store.path).holds()
        (tmp_path / "volume" / "done").touch()
        cell.join()
        assert ended[0].lines == ["x"]
        engine.replace_last(None)
        engine.background.wait()
        sweep(other)
        assert not other.store.blobs.path(image.digest).exists()
        assert other.store.layers.find(image.layers[-1].diff_id) is None


def test_a_cleanup_waits_for_cells_that_have_found_an_image(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is written down some milliseconds after its start: a cleanup after the loss of a name looks later."""
    image = _made(engine)
    engine.background.wait()
    lowers = tuple(engine.images.lowers(image)[::-1])

    def written_down(_: float) -> None:
        with engine.store.lock():  # the cleanup does not hold it meanwhile
            cell = ActiveCell(os.getpid(), birth(os.getpid()), "inuse", image.digest, "", "", "x", lowers)
            engine.note_active("started", cell)

    monkeypatch.setattr(cleanup, "time", SimpleNamespace(time=time.time, sleep=written_down))
    monkeypatch.setattr(cleanup, "_STARTING", DEADLINE)
    engine.store.index.drop_image("inuse")
    sweep(engine)
    assert all((engine.store.path / "layers" / layer / "diff").exists() for layer in lowers)
    engine.note_active("started", None)
    monkeypatch.setattr(cleanup, "_STARTING", 0.0)
    sweep(engine)
    assert engine.store.layers.find(image.layers[-1].diff_id) is None
