"""Comparing states of containers, and giving a container files of an earlier state."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ContainerBusy, ContainerError, ContainerNotFound, NbcontainerError, UsageError
from tests.requirements import require
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared(store_path: Path, _containers_work: str) -> Iterator[Engine]:
    """One engine for all tests here: each has a launcher and a warm pool."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    opened = Engine(store_path)
    yield opened
    opened.close()


@pytest.fixture
def own(shared: Engine) -> Iterator[Engine]:
    """That engine, without containers."""
    yield shared
    for name in ("dev", "fork", "first"):
        with contextlib.suppress(ContainerNotFound):
            containers.get(shared, name).remove()
    shared.last = None


@pytest.fixture
def do(own: Engine) -> Callable[..., Any]:
    """Runs a verb, `do("diff", "dev@0", "dev")`, and returns its view."""
    return lambda verb, *words: VERBS[verb].answer(Invocation(own, parse(VERBS[verb].command, words)))


@pytest.fixture
def cells(own: Engine) -> Callable[..., None]:
    """Runs scripts as cells of the container `dev`, one after the other."""

    def run(*scripts: str, **options: Any) -> None:
        for script in scripts:
            ran = run_script(own, script, image="busybox", name="dev", **options)
            assert ran.outcome.ok, ran.stderr

    return run


def rows(view: Any) -> list[str]:
    """The changes of a view, as `docker diff` shows them."""
    return [str(change) for change in view]


def text(own: Engine, script: str) -> str:
    """What a cell in `dev` writes."""
    return run_script(own, script, name="dev").text


def test_any_two_states_are_compared(do: Any, cells: Any) -> None:
    """`diff A B` lists what B has added, changed and deleted, in both directions, and from the image to the newest."""
    cells("mkdir /w; echo 1 > /w/a; echo 1 > /w/b", "echo 22 > /w/a; rm /w/b; echo 3 > /w/c")
    assert rows(do("diff", "dev@1", "dev@2")) == ["C /w", "C /w/a", "D /w/b", "A /w/c"]
    assert rows(do("diff", "dev@2", "dev@1")) == ["C /w", "C /w/a", "A /w/b", "D /w/c"]
    assert rows(do("diff", "dev@0", "dev")) == rows(do("diff", "dev")) == ["A /w", "A /w/a", "A /w/c"]
    assert rows(do("diff", "dev@1")) == ["A /w", "A /w/a", "A /w/b"]
    assert rows(do("diff", "dev", "dev@2")) == []
    assert json.loads(str(do("diff", "dev@1", "dev@2", "--json")))[1] == {"change": "C", "path": "/w/a", "size": 3}


def test_directories_that_were_replaced_are_compared_by_what_is_in_them(do: Any, cells: Any) -> None:
    """A removed directory is one line; one that was made anew, or became a file, is compared by its contents."""
    cells(
        "mkdir -p /w/d/e /w/f; touch /w/d/e/x /w/d/y /w/f/z",
        "rm -r /w/d; mkdir -p /w/d; touch /w/d/y2; rm -r /w/f; echo > /w/f",
    )
    cells("rm -r /w")
    assert rows(do("diff", "dev@1", "dev@2")) == [
        "C /w", "C /w/d", "D /w/d/e", "D /w/d/y", "A /w/d/y2", "C /w/f", "D /w/f/z",
    ]  # fmt: skip
    assert rows(do("diff", "dev@2", "dev@3")) == ["D /w"]
    assert [str(one) for one in do("diff", "dev@3", "dev@1") if "/d/" in one.path] == [
        "A /w/d/e",
        "A /w/d/e/x",
        "A /w/d/y",
    ]


def test_undone_states_branches_and_images_are_compared(own: Engine, do: Any, cells: Any) -> None:
    """A state that was undone, a container that was checked out, and an image that was committed, are operands."""
    cells("echo 1 > /a", "echo 2 > /b")
    containers.get(own, "dev").undo()
    cells("echo 3 > /c")
    do("checkout", "dev@1", "--name", "fork")
    commit(containers.get(own, "dev"), "made")
    assert rows(do("diff", "dev@2", "dev")) == ["D /b", "A /c"]
    assert rows(do("diff", "fork", "dev")) == ["A /c"]
    assert rows(do("diff", "made", "fork")) == ["D /c"]
    assert rows(do("diff", "busybox", "made")) == ["A /a", "A /c"]
    assert rows(do("diff", "made", "dev")) == []
    prune(own)
    with pytest.raises(ContainerError, match="has no state 2"):
        do("diff", "dev@2", "dev")


def test_metadata_alone_is_a_change_and_equal_content_is_not(do: Any, cells: Any) -> None:
    """Mode and target count; a file that was changed and changed back does not; content with the same time does."""
    cells(
        "mkdir /w; cd /w; echo a > x; echo b > y; echo aaa > z; touch -d @5 x z; ln -s x l",
        "chmod 600 /w/y; ln -sfn y /w/l",
    )
    cells("cd /w; echo a > x; touch -d @5 x; echo bbb > z; touch -d @5 z")
    found = str(do("diff", "dev@1", "dev@3", "--text"))
    assert "C /w/y: mode 644 -> 600" in found
    assert "C /w/l: target x -> y" in found
    assert "-aaa\n+bbb" in found
    assert "/w/x" not in found


def test_a_file_of_terabytes_with_another_byte_is_found_at_once(own: Engine, do: Any, cells: Any) -> None:
    """Its size and time are the same, so that its content is compared, without its holes."""
    if not run_script(own, "truncate -s 4398046511104 /big", remove=True).outcome.ok:
        pytest.skip("the file system has no files that long")
    write = "printf {} | dd of=/big bs=1 seek=3298534883328 conv=notrunc 2>/dev/null; touch -d @5 /big /same"
    cells("truncate -s 4398046511104 /big /same", write.format("x"), write.format("y"))
    assert rows(do("diff", "dev@2", "dev@3")) == ["C /big"]


def test_history_counts_files_and_bytes(own: Engine, do: Any, cells: Any) -> None:
    """Each cell has the files and bytes that it added, changed and removed, on its own branch; no directories."""
    cells(
        "mkdir /w; printf 1234 > /w/a; printf 12 > /w/b; ln -s a /w/l", "true", "printf 123 > /w/a; rm /w/b; mkdir /w/d"
    )
    containers.get(own, "dev").undo()
    cells("rm -r /w; mkdir /w; printf 12345 > /w/a", "rm /etc/passwd; echo > /w/d", "mkdir /e")
    found = json.loads(str(do("history", "dev", "--all", "--json")))
    counts = {one["cell"]: [*one["files"].values()] for one in found}
    passwd = own.store.path / "layers" / containers.get(own, "dev").record.base[-1] / "diff/etc/passwd"
    assert counts == {
        1: [3, 7, 0, 0, 0, 0],
        2: [0, 0, 0, 0, 0, 0],
        3: [0, 0, 1, 3, 1, 2],
        4: [0, 0, 1, 5, 2, 3],
        5: [1, 1, 0, 0, 1, passwd.stat().st_size],
        6: [0, 0, 0, 0, 0, 0],
    }
    shown = str(do("history", "dev")).splitlines()
    assert "ADDED" in shown[0]
    assert "3 (7 B)" in shown[1]
    assert [*found[0]["files"]] == ["added", "added_bytes", "changed", "changed_bytes", "removed", "removed_bytes"]


def test_history_of_a_damaged_layer_has_the_other_counts(own: Engine, do: Any, cells: Any) -> None:
    """If the layer of one cell is lost, its counts are not known, and those of the other cells are."""
    cells("echo 1 > /a", "echo 2 > /b", "echo 3 > /c")
    layer = containers.get(own, "dev").cells[1].layer
    (own.store.path / "layers" / layer / "diff").rename(own.store.path / "layers" / layer / "lost")
    found = json.loads(str(do("history", "dev", "--json")))
    assert [one["files"] and one["files"]["added"] for one in found] == [1, None, 1]


def test_texts_are_unified_diffs_and_other_files_are_named(do: Any, cells: Any) -> None:
    """`--text` shows the lines of small files; binary and large files and links are named, with their sizes."""
    cells(
        "mkdir /w; cd /w; seq 20 > t; printf '\\0\\1' > bin; printf x > end; seq 100000 > big",
        "cd /w; sed -i s/^10$/ten/ t; printf '\\0\\2\\3' > bin; printf y > end; seq 100001 > big; echo new > n;"
        "mkfifo p; ln -s t l",
    )
    found = str(do("diff", "dev@1", "dev", "--text"))
    assert "--- a/w/t\n+++ b/w/t\n@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13" in found
    assert "-x\n\\ No newline at end of file\n+y\n\\ No newline at end of file" in found
    assert "C /w/bin: binary file, 2 -> 3 bytes" in found
    assert "C /w/big: large file" in found
    assert "A /w/n\n--- /dev/null\n+++ b/w/n\n@@ -0,0 +1 @@\n+new" in found
    assert "A /w/p: a named pipe" in found
    assert "A /w/l: a link to t" in found
    values = {one["path"]: one for one in json.loads(str(do("diff", "dev@1", "dev", "--text", "--json")))}
    assert values["/w/n"]["text"] == "--- /dev/null\n+++ b/w/n\n@@ -0,0 +1 @@\n+new\n"
    assert values["/w/bin"]["text"] is None


@pytest.mark.parametrize(
    ("words", "kind", "problem"),
    [
        (("dev@9", "dev"), ContainerError, "container 'dev' has no state 9"),
        (("dev@x", "dev"), UsageError, "invalid state 'dev@x'"),
        (("none@1", "dev"), ContainerNotFound, "no such container: 'none'"),
        (("none", "dev"), ContainerNotFound, "no such container or image: 'none'"),
    ],
)
def test_an_unknown_state_is_one_line(
    do: Any, cells: Any, words: tuple[str, str], kind: type[NbcontainerError], problem: str
) -> None:
    """An unknown state, container or image is named, with the next step; so it is for `restore` and `checkout`."""
    cells("echo > /a")
    for call in (("diff", *words), ("restore", words[0], "/a"), ("checkout", words[0], "--name", "new")):
        if "@" not in words[0] and call[0] != "diff":
            continue
        with pytest.raises(kind) as failed:
            do(*call)
        assert problem in failed.value.message
        assert failed.value.hint
        assert "\n" not in str(failed.value)


@pytest.mark.parametrize("verb", ["undo", "redo", "apply", "discard", "changes", "tree", "rm", "stop"])
def test_a_state_in_the_place_of_a_container_is_one_line(do: Any, cells: Any, verb: str) -> None:
    """Verbs that take a container name it, and the verb that makes a container of a state."""
    cells("echo > /one")
    with pytest.raises(UsageError) as caught:
        do(verb, "dev@1")
    assert "expected a container, and 'dev@1' is a state of one" in str(caught.value)
    assert "`%container checkout dev@1 --name NEW`" in str(caught.value)


def test_the_history_of_a_state_ends_with_its_cell(do: Any, cells: Any) -> None:
    """`history dev@2` lists the cells up to the second one, undone or not."""
    cells("echo > /one", "echo > /two", "echo > /three")
    assert [row.cell for row in do("history", "dev@2")] == [1, 2]
    do("undo", "dev", "-n", "2")
    assert [row.cell for row in do("history", "dev@2")] == [1, 2]
    assert len(do("history", "dev@0")) == 0


def test_files_of_a_state_are_restored(own: Engine, do: Any, cells: Any) -> None:
    """`restore` gives a container files of a state, as a new state that can be undone; the other files stay."""
    cells("mkdir /w; echo 1 > /w/a; echo 1 > /w/b", "echo 2 > /w/a; echo 2 > /w/b; echo 2 > /w/c")
    assert str(do("restore", "dev@1", "/w/a")) == "restored 1 path of dev@1 in dev"
    last = containers.get(own, "dev").record.head
    assert last is not None
    assert (last.number, last.cell.command) == (3, "restore dev@1 /w/a")
    do("undo", "dev")
    assert rows(do("diff", "dev@2", "dev")) == []
    do("redo", "dev")
    assert text(own, "cat /w/a /w/b /w/c") == "1\n2\n2"


def test_a_restored_directory_is_as_it_was(own: Engine, do: Any, cells: Any) -> None:
    """Owners, modes, times, attributes, links and names of one file are kept; what came later in it is gone."""
    cells(
        "mkdir -p /w/d/e; cd /w/d; echo 1 > a; ln a b; ln -s a l; mkfifo p; chmod 4750 a; chmod 1777 e;"
        "touch -d @1000 a e; touch -h -d @2000 l; touch -d @3000 .",
        "rm -r /w/d/e /w/d/a /w/d/l; echo 2 > /w/d/new; chmod 700 /w/d",
        "rm -r /w/d; echo file > /w/d",
    )
    show = "cd /w; find d | sort; stat -c '%n %a %u %g %Y %F' d d/a d/e d/l d/p; readlink d/l; cat d/b"
    assert containers.get(own, "dev").checkout(containers.get(own, "dev").state(1), "first")
    expected = run_script(own, show, name="first").text
    do("restore", "dev@1", "/w/d/")
    assert text(own, show) == expected
    assert rows(do("diff", "dev@1", "dev")) == ["C /w"]
    assert text(own, "cd /w/d; echo 3 > a; [ a -ef b ] || [ $(stat -c %h b) = 1 ]; ls") == "a\nb\ne\nl\np"


def test_what_a_state_does_not_have_is_removed(own: Engine, do: Any, cells: Any) -> None:
    """A path that the state lacks is removed; if neither has it, or one path is wrong, nothing changes."""
    cells("mkdir /w; echo 1 > /w/a", "mkdir /w/d; echo 2 > /w/d/x; echo 2 > /w/b; rm /w/a")
    do("restore", "dev@1", "/w/d", "/w/a", "/w/d/x")
    assert text(own, "cd /w; find . | sort") == ".\n./a\n./b"
    do("restore", "dev@0", "/w/b", "/etc/passwd")
    assert text(own, "ls /w") == "a"
    before = containers.get(own, "dev").record.head
    with pytest.raises(ContainerError, match="neither dev nor its state 1 has it"):
        do("restore", "dev@1", "/w/a", "/w/none")
    assert containers.get(own, "dev").record.head == before
    settle(own)
    assert not [path for path in (own.store.path / "layers").iterdir() if own.store.layers.is_unfinished(path.name)]


def settle(own: Engine) -> None:
    """Wait for what was left to the background."""
    own.background.wait()


def test_a_directory_that_is_gone_comes_back_with_a_file_in_it(own: Engine, do: Any, cells: Any) -> None:
    """Directories above a restored file are made as the state has them, and nothing else in them comes back."""
    cells("mkdir -p /w/d/e; echo 1 > /w/d/e/a; echo 1 > /w/d/b; chmod 710 /w/d", "rm -r /w/d")
    do("restore", "dev@1", "/w/d/e/a")
    assert text(own, "cd /w; find d | sort; stat -c %a d") == "d\nd/e\nd/e/a\n710"


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (("w/a",), "invalid path in the container: 'w/a'"),
        (("/w/../a",), "invalid path in the container: '/w/../a'"),
        (("/w/a\0",), "invalid path in the container"),
        (("/",), "cannot restore '/'"),
        (("/l/a",), "cannot restore below '/l': it is a link"),
        (("/f/a",), "cannot restore below '/f': it is not a directory now"),
    ],
)
def test_a_path_that_cannot_be_restored_is_one_line(
    own: Engine, do: Any, cells: Any, paths: tuple[str, ...], problem: str
) -> None:
    """A path that names no file, or leads through a link or a file, is refused with the next step."""
    cells("mkdir /w /f; echo 1 > /w/a; echo 1 > /f/a; ln -s w /l", "rm -r /f; echo > /f")
    with pytest.raises(NbcontainerError) as failed:
        do("restore", "dev@1", *paths)
    assert problem in failed.value.message
    assert failed.value.hint
    assert containers.get(own, "dev").record.count == 2


def test_a_running_container_is_compared_but_not_restored(own: Engine, do: Any, cells: Any, tmp_path: Path) -> None:
    """While a cell runs, `diff` has what it wrote so far, and `restore` says how to stop it."""
    cells("echo 1 > /a")
    seen: list[Any] = []

    def look(data: bytes) -> None:
        if data == b"ready\n":
            seen.append(rows(do("diff", "dev@1", "dev")))
            with pytest.raises(ContainerBusy) as failed:
                do("restore", "dev@0", "/a")
            seen.append(str(failed.value))
            raise KeyboardInterrupt

    assert tmp_path
    run_script(own, "echo 2 > /b; echo ready; sleep 1000", name="dev", stdout=look)
    assert seen[0] == ["A /b"]
    assert "stop it first: `%container stop dev`" in seen[1]


def test_a_restored_state_survives_prune_and_the_removal_of_what_it_came_from(own: Engine, do: Any, cells: Any) -> None:
    """The files are there after the undone states, and the container that had them first, are gone."""
    cells("echo 1 > /a", "rm /a")
    do("restore", "dev@1", "/a")
    do("checkout", "dev", "--name", "fork")
    containers.get(own, "dev").remove()
    settle(own)
    prune(own)
    assert run_script(own, "cat /a", name="fork").text == "1"


def test_a_state_that_another_process_pruned_is_not_there(own: Engine, do: Any, cells: Any) -> None:
    """What this process has read before is looked up again: no container is made of what is gone."""
    cells("echo 1 > /a", "echo 2 > /a", "echo 3 > /a")
    do("undo", "dev", "-n", "2")
    assert "3" in str(do("history", "dev", "--all"))
    settle(own)
    with contextlib.closing(Engine(own.store.path)) as other:
        prune(other)
    for words in (("checkout", "dev@3", "--name", "fork"), ("diff", "dev@3", "dev"), ("restore", "dev@3", "/a")):
        with pytest.raises(NbcontainerError, match="has no state 3") as failed:
            do(*words)
        assert "history dev --all" in failed.value.hint
    assert not containers.has(own, "fork")


def test_a_full_disk_or_an_interrupt_leaves_nothing(
    own: Engine, do: Any, cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the layer cannot be finished, the container is as it was and no layer is left."""
    cells("echo 1 > /a", "echo 2 > /a")
    before = sorted(os.listdir(own.store.path / "layers"))  # noqa: PTH208

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for error, kind in (
        (full, NbcontainerError),
        (lambda *_: (_ for _ in ()).throw(KeyboardInterrupt), KeyboardInterrupt),
    ):
        monkeypatch.setattr("nbcontainer.store.layers.Layers.finish", error)
        with pytest.raises(kind):
            do("restore", "dev@1", "/a")
        monkeypatch.undo()
        assert sorted(os.listdir(own.store.path / "layers")) == before  # noqa: PTH208
        assert text(own, "cat /a") == "2"


def damage_line(own: Engine) -> None:
    """Overwrite a part of the second line of the journal."""
    path = own.states.journals.path(containers.get(own, "dev").record.journal)
    with open(path, "r+b") as file:  # noqa: PTH123
        file.seek(len(file.readline()) + 30)
        file.write(b"\0" * 10)


def lose_journal(own: Engine) -> None:
    """Remove the journal of a container with a head."""
    containers.get(own, "dev").undo()
    own.states.journals.remove(containers.get(own, "dev").record.journal)


def lose_layer(own: Engine) -> None:
    """Remove the layer of the second cell."""
    layer = containers.get(own, "dev").cells[1].layer
    (own.store.path / "layers" / layer).rename(own.store.path / "tmp" / own.store.unique())


def damage_record(own: Engine) -> None:
    """Cut the record."""
    record = containers.get(own, "dev").path / "container.json"
    record.write_bytes(record.read_bytes()[:20])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_line, "cannot read state"),
        (lose_journal, "cannot read state"),
        (lose_layer, "of its state 2 is missing"),
        (damage_record, "cannot read the record of container 'dev'"),
    ],
)
def test_verify_reads_journals(
    own: Engine, do: Any, cells: Any, damage: Callable[[Engine], None], problem: str
) -> None:
    """`verify` names the container whose record, journal or layer is damaged, fails, and names no other container."""
    cells("echo 1 > /a", "echo 2 > /a", "echo 3 > /a")
    do("checkout", "dev@0", "--name", "fork")
    assert not [one for one in json.loads(str(do("verify", "--json"))) if one["container"]]
    damage(own)
    own.states._known.clear()
    view = do("verify", "--json")
    (found,) = [one for one in json.loads(str(view)) if one["container"]]
    assert not view.ok
    assert found["container"] == "dev"
    assert problem in found["problem"]
    do("rm", "dev")
