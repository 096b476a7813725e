"""What the verbs of history and of copy-on-write volumes say if they cannot do it: one line, with the next step."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ContainerDamaged, NbcontainerError
from tests.linux.test_cow_volumes import Scene, data, scene, shared
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["data", "scene", "shared"]


def verb(engine: Engine, *words: str) -> str:
    """What a verb answers, as text."""
    found = VERBS[words[0]]
    return str(found.answer(Invocation(engine, parse(found.command, list(words[1:])))))


def line(engine: Engine, *words: str) -> str:
    """The one line with which a verb fails."""
    with pytest.raises(NbcontainerError) as raised:
        verb(engine, *words)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def damaged(tmp_path: Path, engine: Engine) -> Iterator[Engine]:
    """An engine of a store with the container `dev`, whose journal has a line that cannot be read."""
    assert engine
    own = Engine(tmp_path / "store")
    for number in range(2):
        run_script(own, f"echo {number} > /f", name="dev")
    own.background.wait()
    (journal,) = (own.store.path / "journals").iterdir()
    journal.write_bytes(journal.read_bytes().replace(b'"number": 1', b'"number": "x"'))
    own.states._known.clear()
    yield own
    own.close()


VERBS_OF_STATES = ("history dev", "undo dev", "checkout dev@1 --name new", "restore dev@1 /f", "diff dev", "tree dev")


@pytest.mark.parametrize("words", VERBS_OF_STATES)
def test_a_damaged_journal_is_one_line_with_the_next_step(damaged: Engine, words: str) -> None:
    """Each verb says what cannot be read, and how to find the container: the name of a journal says nothing of it."""
    with pytest.raises(ContainerDamaged):
        verb(damaged, *words.split())
    assert line(damaged, *words.split()).endswith(
        "`%container verify` names the damaged container; remove it with `%container rm NAME`"
    )


def test_a_store_with_a_damaged_journal_is_pruned(damaged: Engine) -> None:
    """`prune` keeps what the damaged container may need, and removes the rest; `rm` removes the container."""
    assert "dev" in verb(damaged, "verify")
    assert verb(damaged, "prune").startswith("removed")
    assert verb(damaged, "rm", "dev") == "removed dev"


def test_nothing_to_apply_says_whether_there_was_a_volume(scene: Scene) -> None:
    """Before the first volume the next step is to mount one; after `apply` or `discard` it is the history."""
    name, engine = scene.name, scene.engine
    for word in ("apply", "discard"):
        expected = f"nothing to {word}: container '{name}' has had no copy-on-write volume; run its next cell with -v "
        assert line(engine, word, name).startswith(expected)
    scene.cell("echo > /data/new")
    scene.apply()
    for word in ("apply", "discard"):
        expected = f"nothing to {word}: container '{name}' has no changes to copy-on-write volumes; see `"
        assert line(engine, word, name).startswith(expected)


def test_a_path_that_a_volume_never_had_is_named_with_its_container(scene: Scene) -> None:
    """The next step has the names of the container and of the state, as for a path in the root."""
    scene.cell("echo > /data/new")
    said = line(scene.engine, "restore", f"{scene.name}@1", "/data/nope")
    expected = f"cannot restore '/data/nope': neither {scene.name} nor its state 1 has it"
    assert said == f"{expected}; see `%container diff {scene.name}@1 {scene.name}`"


def test_a_directory_that_is_gone_is_named_with_a_step_that_helps(scene: Scene, tmp_path: Path) -> None:
    """A new directory of that name would be another one, so the step is to move it back, or to discard the changes."""
    scene.cell("echo > /data/new")
    scene.data.rename(tmp_path / "away")
    said = line(scene.engine, "apply", scene.name)
    assert said == (
        f"cannot open the directory {scene.data} of the volume '/data': No such file or directory; "
        "move the directory back, or `%container discard` the changes"
    )
    assert verb(scene.engine, "discard", scene.name).startswith("discarded the changes to 1 volume")


def test_a_state_without_a_container_is_no_container(scene: Scene) -> None:
    """`undo @1` says what to write instead."""
    assert line(scene.engine, "undo", "@1") == (
        "expected a container, and '@1' is a state of one; write a container's name, or leave it out for the last one; "
        "`%container checkout @1 --name NEW` makes a container of the state"
    )


def test_a_missing_layer_is_one_line_with_the_next_step(scene: Scene) -> None:
    """`restore` and `diff` say that a layer is missing, and `undo` leads to a state without it."""
    name, engine = scene.name, scene.engine
    for number in range(2):
        run_script(engine, f"echo {number} > /f", name=name)
    engine.background.wait()
    head = scene.made.record.head
    assert head is not None
    shutil.rmtree(engine.store.path / "layers" / head.layer)
    expected = f"cannot restore files in '{name}': its layer {head.layer} is missing; `undo`, or `checkout "
    assert line(engine, "restore", f"{name}@1", "/f").startswith(expected)
    assert "or a layer of it is missing; see " in line(engine, "diff", f"{name}@1", name)
    verb(engine, "undo", name)
    assert run_script(engine, "cat /f", name=name).lines == ["0"]


def test_a_link_to_no_state_is_named(damaged: Engine) -> None:
    """A damaged link `head` is named as one, without the words of the interpreter."""
    place = damaged.store.path / "containers" / "dev" / "head"
    place.unlink(missing_ok=True)
    place.symlink_to("garbage")
    expected = "cannot read the record of container 'dev': its link `head` names no state; remove it with "
    assert line(damaged, "undo", "dev").startswith(expected)
