"""The verbs that show a run without running it: for whatever options a run has, and as the run would be."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.explanation_view import ExplanationView
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.run import run
from nbcontainer.errors import ContainerBusy, NbcontainerError, SetupFailed
from nbcontainer.sandbox.userns.idmap import MapKind

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from nbcontainer.sandbox.explanation import Explanation

_LINES = """
busybox
busybox ls -l /
-v DATA:/x busybox
-v DATA:/x/y:ro -v DATA/file:/z/file busybox
-v DATA:/x:cow busybox
-v DATA:/x:cow -v DATA:/y:cow -v DATA:/z busybox
-v DATA:/x:cow --network private -w /x host true
--network host --add-host db:10.0.0.1 busybox
--network private --dns 9.9.9.9 busybox
-u daemon busybox
-u daemon:root --group-add 5 -w /a/b busybox id
-u 1000 --hostname box --shm-size 1m busybox
--read-only --tmpfs /scratch:size=1m --ulimit nofile=64 busybox
--cap-drop ALL --cap-add SYS_PTRACE --init -e A=b busybox env
--untrusted busybox
--entrypoint cat busybox /etc/passwd
host ls
"""
LINES = _LINES.strip().splitlines()


@pytest.fixture
def words(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """The words of a line, with a directory for DATA."""
    if "-u " in request.param and "nosuch" not in request.param and engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("root is the only user here")
    (tmp_path / "file").touch()
    for place in (tmp_path, *tmp_path.parents[:2]):
        with contextlib.suppress(PermissionError):
            place.chmod(0o755)
    return [word.replace("DATA", str(tmp_path)) for word in str(request.param).split()]


def verb(engine: Engine, name: str, words: list[str]) -> object:
    """What a verb answers."""
    return VERBS[name].answer(Invocation(engine, parse(VERBS[name].command, words)))


def shown(engine: Engine, words: list[str]) -> Explanation:
    """What `explain` shows."""
    view = verb(engine, "explain", words)
    assert isinstance(view, ExplanationView)
    return view.explanation


_SAME = frozenset(
    "capset mount mount_setattr move_mount pivot_root prctl prlimit64 setresuid sethostname umount2".split()
)


def calls(explanation: Explanation) -> list[str]:
    """The names of the calls that do not depend on what is open, in order; capabilities with their arguments."""
    names = [(text.partition("(")[0], text) for text in str(explanation).splitlines()]
    return [text if name == "capset" else name for name, text in names if name in _SAME]


def explained(engine: Engine, words: list[str]) -> Explanation:
    """What was done for a run."""
    found: list[Explanation] = []
    parsed = parse(RUN, words)
    request = request_of(parsed, script=None if parsed.tail else "true")
    run(engine, request, Streams(lambda _: None, lambda _: None, on_explained=found.append))
    return found[-1]


@pytest.mark.parametrize("words", LINES, indirect=True, ids=LINES)
def test_explain_shows_the_steps_of_the_run(engine: Engine, words: list[str]) -> None:
    """The same steps in the same order, each with a purpose; those about volumes, users and programs say the same."""
    planned = shown(engine, words)
    ran = explained(engine, ["--explain", *words])
    assert [step.name for step in planned] == [step.name for step in ran]
    assert all(step.words().why for step in planned)
    if "--untrusted" not in words:  # its control groups are made for a run, and so is what shows them
        assert calls(planned) == calls(ran)
    for one, other in zip(planned, ran, strict=True):
        if one.name in ("BindVolume", "MountTmpfs", "SetUser", "Execute", "MakeWorkdir"):
            assert one.words() == other.words()


@pytest.mark.parametrize("words", LINES, indirect=True, ids=LINES)
@pytest.mark.parametrize("name", ["mounts", "namespaces"])
def test_drawings_show_what_there_is(engine: Engine, words: list[str], name: str, tmp_path: Path) -> None:
    """Whatever the options are; each volume has its source."""
    only = [word for word in words[: len(words) - len(parse(RUN, words).tail)] if word not in ("--entrypoint", "cat")]
    text = str(verb(engine, name, only))
    if name == "mounts":
        assert text.count(f"volume {tmp_path}") == words.count("-v")
    assert text


def test_a_container_that_runs_is_not_drawn_as_a_new_one(engine: Engine) -> None:
    """The verbs that draw a run say so: its network and its volumes would be others."""
    with nbcontainer.create("busybox", "drawn", engine=engine) as box:
        box.start(["sleep", "1000"])
        for name in ("mounts", "namespaces"):
            with pytest.raises(ContainerBusy, match=f"container 'drawn' is running, and `{name}` draws a new run"):
                verb(engine, name, ["--name", "drawn"])
        box.stop()
        assert "/dev" in str(verb(engine, "mounts", ["--name", "drawn"]))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("busybox nosuch", "cannot run nosuch: No such file or directory; the image has no such program"),
        ("host nosuch", "cannot run nosuch: No such file or directory; the image has no such program"),
        ("-u nosuch busybox", "no user nosuch in the image"),
        ("-u daemon:nosuch busybox", "no group nosuch in the image"),
    ],
    indirect=["words"],
)
def test_what_a_run_would_fail_with_is_what_explain_says(engine: Engine, words: list[str], problem: str) -> None:
    """The step that the kernel would refuse, with the hint of the run."""
    with pytest.raises(SetupFailed) as planned:
        shown(engine, words)
    with pytest.raises(NbcontainerError) as ran:
        explained(engine, words)
    assert problem in str(planned.value)
    assert str(planned.value) == str(ran.value)


def test_nothing_is_left_of_what_is_only_shown(engine: Engine, tmp_path: Path) -> None:
    """No container, no layer of a volume, and no change of its directory."""
    nbcontainer.run("busybox", ["true"], engine=engine)
    engine.background.wait()
    before = {path.name for path in (engine.store.path / "containers").iterdir()}
    for name in ("explain", "mounts", "namespaces"):
        verb(engine, name, ["-v", f"{tmp_path}:/x:cow", "--name", "not-there", "busybox"])
    engine.background.wait()
    assert {path.name for path in (engine.store.path / "containers").iterdir()} <= before
    assert [*tmp_path.iterdir()] == []
