"""`Container` of the Python API: files that stay, one run at a time, diff and commit, and the end of a `with` block."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import ContainerBusy, ContainerNotFound
from nbcontainer.sandbox import supervisor
from tests.running import all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine


@pytest.mark.parametrize("named", [True, False])
def test_files_stay_from_run_to_run(engine: Engine, name: str, named: bool) -> None:
    """Each run finds the files of the run before. After its block, only a named container keeps them."""
    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        box.run(script="echo 1 > /kept")
        nbcontainer.run("busybox", ["true"], engine=engine)  # replaces the last anonymous container
        assert box.run(["cat", "/kept"]).text == "1\n"
        assert [str(change) for change in box.diff()] == ["A /kept"]
        where = engine.store.path / "containers" / box.name
        assert where.exists()
        assert box.run(["hostname"]).text.strip() == box.name
    assert where.exists() == named
    if named:
        assert nbcontainer.get(name, engine=engine).run(["cat", "/kept"]).text == "1\n"
        assert [one.name for one in nbcontainer.list_containers(engine=engine) if one.name == name] == [name]


@pytest.mark.parametrize("named", [True, False])
def test_a_run_that_has_just_begun_is_ended(
    engine: Engine, name: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop` ends a run of another thread, whose program runs, before it is noted that it lasts."""
    monkeypatch.setattr(supervisor, "BRIEF", 0.5)
    mark = marker()
    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        thread = threading.Thread(target=lambda: box.run(["sleep", mark], check=False))
        thread.start()
        fds = pidfds(appear(mark, 1))
        assert box.stop()
        assert all_dead(fds)
        thread.join()
        assert not box.stop()


def test_a_result_goes_on_in_its_container(engine: Engine) -> None:
    """The container of a result can be used, also when other runs have come since its next one."""
    box = nbcontainer.run("busybox", script="echo 1 > /kept", engine=engine).container
    assert isinstance(box, nbcontainer.Container)
    with box:
        box.run(script="echo 2 >> /kept")
        for _ in range(3):
            nbcontainer.run("busybox", script="touch /other", engine=engine)
        assert box.run(["cat", "/kept"]).text == "1\n2\n"


@pytest.mark.parametrize("named", [True, False])
def test_one_run_at_a_time(engine: Engine, name: str, named: bool) -> None:
    """A second run in the same container raises `ContainerBusy`; the end of the block ends the first one."""
    mark = marker()
    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        thread = threading.Thread(target=lambda: box.run(["sleep", mark], check=False))
        thread.start()
        fds = pidfds(appear(mark, 1))
        with pytest.raises(ContainerBusy, match="is running"):
            box.run(["true"])
        thread_ended = thread
    assert all_dead(fds)
    thread_ended.join()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("before", ["true", "touch /kept"])
def test_a_container_that_runs_is_not_removed(engine: Engine, name: str, before: str, *, named: bool) -> None:
    """`remove` raises `ContainerBusy` during `run` of another thread and after `start`; after `stop` it removes."""
    box = nbcontainer.create("busybox", name if named else "", engine=engine)
    box.run(["sh", "-c", before])
    mark = marker()
    thread = threading.Thread(target=lambda: box.run(["sleep", mark], check=False))
    thread.start()
    appear(mark, 1)
    with pytest.raises(ContainerBusy, match="is running"):
        box.remove()
    box.stop()
    box.start(script="echo up > /up; sleep 1000")
    with pytest.raises(ContainerBusy, match="is running"):
        box.remove()
    box.stop()
    box.remove()
    assert not (engine.store.path / "containers" / box.name).exists()
    thread.join()


def test_an_option_that_makes_a_container_is_refused_in_one(engine: Engine) -> None:
    """A container keeps its name and its image: options for others raise `TypeError`, and nothing runs."""
    options: dict[str, Any] = {
        "name": "other",
        "pull": "never",
        "platform": "linux/arm64",
        "remove": True,
        "labels": [],
    }
    with nbcontainer.create("busybox", engine=engine) as box:
        for keyword, value in options.items():
            for call in (box.run, box.start):
                with pytest.raises(TypeError, match=rf"Container.\w+\(\) got an unexpected .* '{keyword}': "):
                    call(["true"], **{keyword: value})
        assert box.record.count == 0


def test_an_explained_run_has_its_steps(engine: Engine) -> None:
    """`explain=True` puts the steps with their system calls into the result, which keeps them when it is pickled."""
    with nbcontainer.create("busybox", engine=engine) as box:
        results = [
            nbcontainer.run("busybox", ["true"], explain=True, engine=engine),
            box.run(["false"], explain=True, check=False),
            box.start(["true"], explain=True).wait(),
        ]
        assert box.run(["true"]).explanation is None
    for result in results:
        explanation = pickle.loads(pickle.dumps(result)).explanation
        assert explanation.whole
        assert "Execute" in [step.name for step in explanation]
        assert "pivot_root(" in str(explanation)
        assert repr(explanation) == f"<Explanation of {len(explanation.steps)} steps>"


def test_a_container_becomes_an_image(engine: Engine, tmp_path: Path) -> None:
    """`commit` makes an image with changes of its configuration, and a tar."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(script="echo hello > /greeting")
        image = box.commit("made:1", changes=["CMD cat /greeting"], output=tmp_path / "made.tar", message="why")
    try:
        assert nbcontainer.run(image, engine=engine).text == "hello\n"
        assert (tmp_path / "made.tar").stat().st_size > 100_000
        assert "made:1" in [one.name for one in nbcontainer.list_images(engine=engine)]
    finally:
        nbcontainer.remove_image("made:1", engine=engine)


def test_an_image_is_saved_and_loaded(engine: Engine, tmp_path: Path) -> None:
    """An image that was saved, removed and loaded is the same."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(script="echo hello > /greeting")
        image = box.commit("made:2")
    nbcontainer.save("made:2", tmp_path / "made.tar", engine=engine)
    nbcontainer.remove_image("made:2", engine=engine)
    with pytest.raises(nbcontainer.ImageNotFound):
        nbcontainer.find_image("made:2", pull="never", engine=engine)
    (loaded,) = nbcontainer.load(tmp_path / "made.tar", engine=engine)
    assert (loaded.name, loaded.layers) == (image.name, image.layers)
    nbcontainer.remove_image("made:2", engine=engine)


def test_each_function_takes_an_image(engine: Engine, tmp_path: Path) -> None:
    """An `Image` is found, saved under its own name, and removed; not if another image has its name now."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(["touch", "/one"])
        first = box.commit("made:3")
        box.run(["touch", "/two"])
        second = box.commit("made:3")
    assert nbcontainer.find_image(second, engine=engine).digest == second.digest
    with pytest.raises(nbcontainer.ImageNotFound, match="the name 'made:3' is that of another image now"):
        nbcontainer.remove_image(first, engine=engine)
    nbcontainer.save(second, tmp_path / "made.tar", engine=engine)
    nbcontainer.remove_image(second, engine=engine)
    with pytest.raises(nbcontainer.ImageNotFound):
        nbcontainer.save(second, tmp_path / "made.tar", engine=engine)
    (loaded,) = nbcontainer.load(tmp_path / "made.tar", engine=engine)
    assert (loaded.name, loaded.digest) == (second.name, second.digest)
    nbcontainer.remove_image(loaded, engine=engine)


def test_a_saved_builtin_image_is_loaded(engine: Engine, tmp_path: Path) -> None:
    """The store has that image under its reserved name; another image cannot take the name, but gets one of its own."""
    image = nbcontainer.find_image("busybox", engine=engine)
    nbcontainer.save(image, tmp_path / "box.tar", engine=engine)
    assert nbcontainer.load(tmp_path / "box.tar", engine=engine) == [image]
    (copy,) = nbcontainer.load(tmp_path / "box.tar", name="copied", engine=engine)
    assert (copy.name, copy.digest) == ("copied", image.digest)
    nbcontainer.remove_image("copied", engine=engine)
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(["touch", "/other"])
        other = box.commit("other")
    engine.images.save([other.named("busybox")], tmp_path / "false.tar")
    with pytest.raises(nbcontainer.ImageError, match=r"'busybox', which is a name of nbcontainer's own; .*name=NAME"):
        nbcontainer.load(tmp_path / "false.tar", engine=engine)
    (loaded,) = nbcontainer.load(tmp_path / "false.tar", name="other", engine=engine)
    assert (loaded.name, loaded.digest) == ("other", other.digest)
    assert nbcontainer.find_image("busybox", engine=engine).digest == image.digest
    nbcontainer.remove_image("other", engine=engine)
    for bad in ("busybox@sha256:1", "host", "Upper"):
        with pytest.raises(nbcontainer.UsageError):
            nbcontainer.load(tmp_path / "false.tar", name=bad, engine=engine)


def test_a_removed_container_says_so(engine: Engine, name: str) -> None:
    """A run in a named container that was removed raises `ContainerNotFound`."""
    box = nbcontainer.create("busybox", name, engine=engine)
    nbcontainer.get(name, engine=engine).remove()
    with pytest.raises(ContainerNotFound, match=name):
        box.run(["true"])
