"""What runs in a container stands still while it is copied, and goes on as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer import api
from nbcontainer.containers import lookup as containers
from nbcontainer.containers import snapshot
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit
from nbcontainer.containers.diff import diff
from nbcontainer.containers.pause import paused
from nbcontainer.containers.snapshot import frozen_copy, held
from nbcontainer.containers.writes import copies
from nbcontainer.errors import ContainerError, ImageError, ImageNotFound
from nbcontainer.linux.procfs import STANDING, descendants, state
from nbcontainer.sandbox import standstill
from nbcontainer.sandbox.standstill import Standstill
from tests.running import DEADLINE, init_of, marker, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


@pytest.fixture
def outsider() -> Iterator[int]:
    """The pid of a process that is in no container."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits until it has happened: the kernel tells nobody when a process goes on."""
    deadline = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_everything_stands_still_and_goes_on(cell: Cell, tmp_path: Path) -> None:
    """Each process is stopped meanwhile; one that was stopped before is so afterwards, and the others are not."""
    mark = marker()
    seen: list[dict[str, str]] = []

    def look(said: bytes) -> None:
        if b"ready" not in said:
            return
        init = init_of(mark)
        wait_for(lambda: any(state(pid) == "T" for pid in descendants(init)))  # it takes the signal when it runs
        (stopped,) = (pid for pid in descendants(init) if state(pid) == "T")
        with paused(init, tmp_path / "pause"):
            seen.append({str(pid): state(pid) for pid in descendants(init)})
        wait_for(lambda: state(stopped) == "T")
        os.kill(stopped, signal.SIGKILL)
        seen.append({pid: state(int(pid)) for pid in seen[0] if int(pid) != stopped})
        os.kill(init, signal.SIGTERM)

    cell(f"sleep {mark} & kill -STOP $!; sleep {mark} & setsid sleep {mark} & echo ready; wait", stdout=look)
    meanwhile, after = seen
    assert len(meanwhile) == 4
    assert set(meanwhile.values()) <= STANDING - set("ZX")
    assert len(after) == 3
    assert not STANDING & set(after.values())


def test_what_is_copied_is_of_one_moment(engine: Engine) -> None:
    """Of two files that are written one after the other, no copy has the later without the earlier."""
    images: list[str] = []

    def look(_: bytes) -> None:
        (name,) = engine.active
        for number in range(5):
            with frozen_copy(engine, name) as copy:
                images.append(api.commit(copy, f"moment:{number}").name)
        os.kill(engine.active[name].pid, signal.SIGTERM)

    run_script(engine, "touch /a /b; echo there; while :; do echo >>/a; echo >>/b; done", stdout=look)
    sizes = [run_script(engine, "stat -c %s /a /b", image=image).lines for image in images]
    assert len({size for size, _ in sizes}) == 5
    assert {int(one) - int(other) for one, other in sizes} <= {0, 1}


def test_nobody_outside_is_stopped(outsider: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has been given the number of one inside, which has just ended, is left alone."""
    found = iter([[outsider], [], []])
    monkeypatch.setattr(standstill, "descendants", lambda _: next(found))
    Standstill(1, lambda *_: None).hold()
    assert state(outsider) not in STANDING


def test_a_container_that_ends_while_it_is_copied_is_read_as_it_is_then(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its write layer is gone by then: `diff` and `commit` see the layer that the cell has left."""
    mark = marker()
    cell = threading.Thread(
        target=run_script, args=(engine, f"echo > /new; exec sleep {mark}"), kwargs={"name": "ending"}
    )
    cell.start()
    init = init_of(mark)
    wait_for(lambda: "ending" in running_containers(engine.store))
    original = copies.copied

    def ending(*words: Any) -> Any:
        os.kill(init, signal.SIGKILL)
        cell.join()
        return original(*words)

    monkeypatch.setattr(snapshot, "copied", ending)
    try:
        with frozen_copy(engine, "ending") as copy:
            assert copy.name == "ending"
            assert [change.path for change in diff(copy)] == ["/new"]
    finally:
        containers.get(engine, "ending").remove()


def test_a_running_container_with_any_file_name_is_copied(engine: Engine) -> None:
    """`diff` lists `.wh.x`, which only `commit` refuses, and the deletion of the longest name."""
    long = "n" * 255
    run_script(engine, f"touch /{long}", name="named")
    seen: list[list[str]] = []

    def look(_: bytes) -> None:
        with frozen_copy(engine, "named") as copy:
            seen.append([str(change) for change in diff(copy)])
            if "A /.wh.x" in seen[-1]:
                with pytest.raises(ImageError, match=r"'\.wh\.x'.*rename or remove it in a cell"):
                    api.commit(copy, "named:now")
            else:
                api.commit(copy, "named:now")
        os.kill(engine.active["named"].pid, signal.SIGTERM)

    run_script(engine, f"rm /{long}; echo there; sleep 1000", name="named", stdout=look)
    run_script(engine, "touch /.wh.x; echo there; sleep 1000", name="named", stdout=look)
    assert seen == [[], ["A /.wh.x"]]
    assert run_script(engine, "ls -d /n*", image="named:now").lines == []
    containers.get(engine, "named").remove()


def test_what_a_copy_is_of_outlives_its_removal(engine: Engine) -> None:
    """A copy without changes of its own refers to the layers below, too, before anything else can remove them."""
    run_script(engine, "echo > /new", name="copied")
    with snapshot.snapshot(containers.get(engine, "copied"), 0, "") as copy:
        containers.get(engine, "copied").remove()
        prune(engine)
        assert [change.path for change in diff(copy)] == ["/new"]


def test_an_image_that_has_just_been_removed_is_one_line(engine: Engine) -> None:
    """`tag`, `save` and `push` of an image that another process removes say so, and do not miss a blob."""
    run_script(engine, "echo > /new", name="made")
    image = commit(containers.get(engine, "made"), "made")
    containers.get(engine, "made").remove()
    engine.store.index.drop_image("made")
    run_script(engine, "true")
    engine.background.wait()
    prune(engine)
    with pytest.raises(ImageNotFound, match="image 'made' was removed in another process"):
        engine.store.index.tag(image, "other")
    with (
        pytest.raises(ContainerError, match="'made' was removed in another process"),
        held(engine, "made", image.digest, ()),
    ):
        pass
