"""Copy-on-write volumes: cells change a layer, and the host's directory changes when the changes are applied."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.commit import commit, export
from nbcontainer.containers.comparing.cell_counts import CellCounts, counts_of
from nbcontainer.containers.comparing.volume_counts import with_volumes
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import attaching, directories, volume_changes
from nbcontainer.containers.diff import diff
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.integrity.container_check import check_containers
from nbcontainer.errors import ChangesRefused, ContainerBusy, ContainerError, UsageError
from nbcontainer.sandbox.userns import idmap
from tests.requirements import require, require_plain_user, require_root
from tests.running import all_dead, descendants, pidfds, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.container import Container
    from nbcontainer.sandbox.spec import Volume
    from tests.running import Ran


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of the test's user with two files, a directory and a link."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("of the host\n")
    (folder / "b").write_text("stays\n")
    (folder / "sub" / "x").write_text("x\n")
    (folder / "link").symlink_to("a")
    return folder


class Scene:
    """One named container with the directory `data` of the host as a copy-on-write volume at /data."""

    def __init__(self, engine: Engine, data: Path, name: str) -> None:
        self.engine = engine
        self.data = data
        self.name = name

    def cell(self, script: str, *more: str, options: str = "cow") -> Ran:
        """Run a cell that sees the volume, and `more` volumes."""
        words = (f"{self.data}:/data:{options}", *more)
        volumes = tuple(cast("Volume", parse_volume(word)) for word in words)
        return run_script(self.engine, script, name=self.name, volumes=volumes)

    @property
    def made(self) -> Container:
        """The container."""
        return containers.get(self.engine, self.name)

    def changes(self) -> list[str]:
        """The changes that are not applied, as texts."""
        return [str(change) for change in volume_changes.list_changes(self.made).changes]

    def conflicts(self) -> dict[str, str]:
        """The conflicts, by their paths."""
        return {one.path: one.reason for one in volume_changes.list_changes(self.made).conflicts}

    def apply(self, *, force: bool = False) -> volume_changes.Applied:
        """Apply the changes."""
        return volume_changes.apply(self.made, force=force)

    def verb(self, *words: str) -> str:
        """What a verb answers, as text."""
        verb = VERBS[words[0]]
        return str(verb.answer(Invocation(self.engine, parse(verb.command, list(words[1:])))))

    def nothing_is_left(self) -> bool:
        """Whether no staging directory is left anywhere in the host's directory."""
        return not [*self.data.rglob(".nbcontainer-*")]


@pytest.fixture(scope="module")
def shared(store_path: Path, _containers_work: str) -> Iterator[Engine]:
    """One engine for the tests of this file: they are many and short."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    opened = Engine(store_path)
    run_script(opened, "true")
    yield opened
    opened.close()


@pytest.fixture
def scene(shared: Engine, data: Path) -> Iterator[Scene]:
    """A container with the volume, and its directory."""
    made = Scene(shared, data, f"cow-{os.urandom(4).hex()}")
    containers.create(shared, shared.images.find("busybox"), made.name)
    yield made
    made.made.remove()


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Type, mode, time, and content or target of all files below a directory."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        what = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""  # noqa: PTH115
        found[str(path.relative_to(top))] = (oct(facts.st_mode), facts.st_mtime_ns, what)
    return found


def test_the_host_sees_no_change_until_it_is_applied(scene: Scene) -> None:
    """A cell adds, changes and removes files; the next cell sees that, the host does not; `apply` brings all of it."""
    before = tree(scene.data)
    scene.cell("echo new > /data/new; echo changed > /data/a; rm /data/b; rm -r /data/sub; ln -sf /etc /data/link")
    assert tree(scene.data) == before
    seen = scene.cell("cd /data; ls; cat a new; readlink link")
    assert seen.lines == ["a", "link", "new", "changed", "new", "/etc"]
    assert scene.changes() == ["C /data/a", "D /data/b", "C /data/link", "A /data/new", "D /data/sub"]
    assert scene.apply().written == 5
    assert sorted(os.listdir(scene.data)) == ["a", "link", "new"]  # noqa: PTH208
    assert (scene.data / "a").read_text() == "changed\n"
    assert os.readlink(scene.data / "link") == "/etc"  # noqa: PTH115
    assert scene.changes() == []
    assert scene.nothing_is_left()


def test_applied_files_are_what_the_container_made(scene: Scene) -> None:
    """Modes, times, hard links, pipes and new directories are the container's, and the owner is the user."""
    scene.cell(
        "cd /data; mkdir -m 750 n; echo 1 > n/f; ln n/f n/g; mkfifo -m 640 n/p; chmod 604 a; touch -d @1500000000 n/f; "
        "touch -d @1400000000 n; chmod 711 sub; touch sub/y; touch -d @1300000000 sub"
    )
    scene.apply()
    facts = {name: (scene.data / name).stat() for name in ("n", "n/f", "n/g", "n/p", "a", "sub")}
    modes = {name: stat.S_IMODE(one.st_mode) for name, one in facts.items()}
    assert modes == {"n": 0o750, "n/f": 0o644, "n/g": 0o644, "n/p": 0o640, "a": 0o604, "sub": 0o711}
    assert facts["n/f"].st_ino == facts["n/g"].st_ino
    assert stat.S_ISFIFO(facts["n/p"].st_mode)
    times = [int(facts[name].st_mtime) for name in ("n/f", "n", "sub")]
    assert times == [1500000000, 1400000000, 1300000000]
    assert {(one.st_uid, one.st_gid) for one in facts.values()} == {(os.geteuid(), os.getegid())}


def test_owners_are_translated(scene: Scene) -> None:
    """A file of user 33 in the container is that user's on the host: 33 for root, one of the range for a plain user."""
    if scene.engine.idmap.kind == idmap.MapKind.SINGLE:
        pytest.skip("needs a range of ids")
    scene.cell("echo 1 > /data/f; mkdir /data/d; chown 33:34 /data/f /data/d /data/a; touch /data/d/inside")
    seen = scene.cell("stat -c '%u:%g' /data/f /data/d /data/a /data/d/inside")
    assert seen.lines == ["33:34", "33:34", "33:34", "0:0"]
    scene.apply()
    owners = {(scene.data / name).stat().st_uid for name in ("f", "d", "a")}
    upper = scene.engine.idmap.uids[-1]
    assert owners == {33 if os.geteuid() == 0 else upper.outside + 33 - upper.inside}
    assert scene.cell("stat -c '%u:%g' /data/f /data/d /data/a").lines == ["33:34"] * 3


@pytest.mark.slow
def test_foreign_owners_and_links_to_one_file_stay(scene: Scene) -> None:
    """A changed file of another user of the host stays that user's; other names of a file keep the old content."""
    require_root()
    for name in ("a", "sub"):
        os.chown(scene.data / name, 1_000_000, 1_000_001)
    (scene.data / "name").hardlink_to(scene.data / "a")
    scene.cell("echo c > /data/a; touch /data/sub/y; chmod 700 /data/sub")
    scene.apply()
    facts = [(scene.data / name).stat() for name in ("a", "sub", "name")]
    assert [(one.st_uid, one.st_gid) for one in facts] == [(1_000_000, 1_000_001)] * 3
    assert (scene.data / "name").read_text() == "of the host\n"
    assert (scene.data / "a").read_text() == "c\n"


def test_attributes_and_holes_are_kept(scene: Scene) -> None:
    """An attribute of a user's and a hole in a file are on the host after `apply`; overlay's own attributes are not."""
    os.setxattr(scene.data / "a", "user.mark", b"kept")
    (scene.data / "b").write_bytes(b"end".rjust(1 << 24, b"\0"))
    scene.cell("echo more >> /data/a; truncate -s 64M /data/big; echo >> /data/b; mkdir /data/o")
    scene.apply()
    assert os.getxattr(scene.data / "a", "user.mark") == b"kept"
    assert (scene.data / "big").stat().st_blocks == 0
    assert (scene.data / "b").stat().st_size == (1 << 24) + 1
    for path in scene.data.rglob("*"):
        assert not [name for name in os.listxattr(path, follow_symlinks=False) if "overlay" in name]


def test_several_cells_are_applied_as_one(scene: Scene) -> None:
    """What one cell makes another one removes, replaces or renames: `apply` writes the last of it."""
    scene.cell("cd /data; echo 1 > one; mkdir dir; echo 2 > dir/two; echo 3 > a")
    scene.cell("cd /data; rm one; mv dir moved; rm -r sub; mkdir sub; echo s > sub/new; rm a; mkdir a; echo in > a/in")
    scene.cell("cd /data; rm -r a; echo file > a; mv moved/two sub/; echo late > moved/late")
    expected = scene.cell("cd /data; find . | sort; cat a sub/new sub/two moved/late").text
    scene.apply()
    ran = subprocess.run(
        "find . | sort; cat a sub/new sub/two moved/late", shell=True, cwd=scene.data, capture_output=True, text=True
    )
    assert ran.stdout.rstrip("\n") == expected
    assert not (scene.data / "sub" / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inside", "meanwhile", "reason"),
    [
        ("echo c > /data/a", "echo h > a", "changed on the host meanwhile"),
        ("echo c > /data/a", "rm a", "removed from the host meanwhile"),
        ("echo c > /data/a", "rm a; mkdir a", "changed on the host meanwhile"),
        ("rm /data/a", "echo h > a", "changed on the host meanwhile"),
        ("rm -r /data/sub", "echo h > sub/x", "changed on the host meanwhile"),
        ("rm -r /data/sub", "touch sub/new", "changed on the host meanwhile"),
        ("rm -r /data/sub; mkdir /data/sub", "touch sub/new", "changed on the host meanwhile"),
        ("echo c > /data/new", "echo h > new", "changed on the host meanwhile"),
        ("mkdir /data/new; touch /data/new/x", "mkdir new; echo h > new/x", "changed on the host meanwhile"),
        ("mkdir /data/new", "touch new", "changed on the host meanwhile"),
        ("echo c > /data/sub/x", "rm -r sub; ln -s /etc sub", "changed on the host meanwhile"),
        ("echo c > /data/sub/x", "mv sub away", "removed from the host meanwhile"),
        ("touch -h -d @1 /data/link", "ln -sfn b link", "changed on the host meanwhile"),
    ],
)
def test_what_the_host_changed_meanwhile_is_not_overwritten(
    scene: Scene, inside: str, meanwhile: str, reason: str
) -> None:
    """`apply` is refused as a whole, and names the path; with `--force`, the container's change is written."""
    scene.cell(f"{inside}; echo other > /data/b; echo again > /data/added")
    subprocess.run(meanwhile, shell=True, cwd=scene.data, check=True)
    before = tree(scene.data)
    assert reason in scene.conflicts().values()
    with pytest.raises(ChangesRefused, match=reason) as caught:
        scene.apply()
    assert "--force" in caught.value.hint
    assert tree(scene.data) == before
    scene.apply(force=True)
    assert (scene.data / "b").read_text() == "other\n"
    assert Path("/etc/passwd").exists()
    assert scene.changes() == []
    assert scene.nothing_is_left()


def test_a_change_before_the_cell_that_used_it_counts(scene: Scene) -> None:
    """What the host changes after the container's first cell is in conflict, also if a later cell is the one that
    changes the file."""
    scene.cell("cat /data/a")
    (scene.data / "a").write_text("changed after the first cell\n")
    assert scene.cell("cat /data/a; echo mine > /data/a").text == "changed after the first cell"
    assert scene.conflicts() == {"/data/a": "changed on the host meanwhile"}


@pytest.mark.slow
def test_changes_of_the_host_elsewhere_are_no_conflict(scene: Scene) -> None:
    """Other files that the host makes or changes stay, also in the same directories."""
    scene.cell("echo c > /data/a; echo c > /data/sub/new")
    (scene.data / "b").write_text("changed\n")
    (scene.data / "sub" / "host").write_text("host\n")
    scene.apply()
    assert (scene.data / "b").read_text() == "changed\n"
    assert sorted(os.listdir(scene.data / "sub")) == ["host", "new", "x"]  # noqa: PTH208


def test_a_directory_that_both_make_has_the_files_of_both(scene: Scene) -> None:
    """Directories of the same name do not conflict: it keeps the host's mode and files, and gets the container's."""
    scene.cell("mkdir -m 700 /data/new; echo c > /data/new/c")
    (scene.data / "new").mkdir()
    (scene.data / "new").chmod(0o751)
    (scene.data / "new" / "h").write_text("h\n")
    assert scene.conflicts() == {}
    scene.apply()
    assert sorted(path.name for path in (scene.data / "new").iterdir()) == ["c", "h"]
    assert stat.S_IMODE((scene.data / "new").stat().st_mode) == 0o751


def test_what_is_the_same_on_both_sides_is_no_conflict(scene: Scene) -> None:
    """A file that the host has with the container's content is done: so an interrupted `apply` continues."""
    scene.cell("echo same > /data/a; mkdir /data/n; echo f > /data/n/f; rm /data/b; ln -sfn b /data/link")
    (scene.data / "a").write_text("same\n")
    (scene.data / "n").mkdir()
    (scene.data / "n" / "f").write_text("f\n")
    (scene.data / "b").unlink()
    assert scene.conflicts() == {}
    assert scene.apply().written == 1


def test_a_file_of_terabytes_with_a_few_bytes_is_compared_at_once(scene: Scene) -> None:
    """Its holes are not read, on either side; the bytes after them are."""
    write = "printf here | dd of=/data/{0} bs=1 seek=3298534883328 conv=notrunc 2>/dev/null"
    script = f"truncate -s 4398046511104 /data/{{0}}; {write}"
    if not scene.cell("set -e; " + "; ".join(map(script.format, "xyz"))).outcome.ok:
        pytest.skip("the file system has no files that long")
    for name, text in (("x", b"here"), ("y", b"hers")):
        with (scene.data / name).open("wb") as file:
            file.truncate(4 << 40)
            os.pwrite(file.fileno(), text, 3 << 40)
    assert scene.conflicts() == {"/data/y": "changed on the host meanwhile"}
    assert scene.changes() == ["C /data/y", "A /data/z"]


def test_undo_moves_root_and_volume_and_commit_takes_the_root(scene: Scene) -> None:
    """`undo` takes back what a cell changed at both places, `redo` brings it back; an image has the root alone."""
    scene.cell("echo 1 > /data/a; echo 1 > /root/r")
    scene.cell("echo 2 > /data/a; echo 2 > /root/r")
    scene.cell("echo 3 > /data/a")
    scene.made.undo()
    assert scene.cell("cat /data/a /root/r").lines == ["2", "2"]
    scene.made.undo()
    assert scene.cell("cat /data/a /root/r").lines == ["1", "1"]
    fork = scene.made.checkout(scene.made.state(2), f"{scene.name}-fork")
    try:
        assert [str(one) for one in volume_changes.list_changes(fork).changes] == ["C /data/a"]
    finally:
        fork.remove()
    assert "/data/a" not in [change.path for change in diff(scene.made)]
    image = commit(scene.made, f"image-{scene.name}")
    made = containers.create_anonymous(scene.engine, image)
    export(scene.engine, made.lowers[::-1], scene.data.parent / "out.tar")
    names = subprocess.run(["tar", "tf", scene.data.parent / "out.tar"], capture_output=True, text=True, check=True)
    assert "root/r" in names.stdout
    assert "data/a" not in names.stdout


def test_discard_drops_the_changes_and_undo_brings_them_back(scene: Scene) -> None:
    """After `discard` cells see the host's files; `undo` is the way back."""
    before = tree(scene.data)
    scene.cell("echo c > /data/a")
    assert volume_changes.discard(scene.made) == 1
    assert scene.cell("cat /data/a").text == "of the host"
    scene.made.undo()
    assert scene.cell("cat /data/a").text == "c"
    assert tree(scene.data) == before


def test_a_discarded_apply_or_an_empty_one_is_refused(scene: Scene) -> None:
    """Without changes, `apply` and `discard` are one line with the next step."""
    for verb in ("apply", "discard"):
        with pytest.raises(ChangesRefused, match=f"nothing to {verb}"):
            scene.verb(verb, scene.name)
    assert scene.verb("changes", scene.name) == "no changes"


@pytest.mark.slow
def test_a_container_with_changes_is_removed_by_force_alone(scene: Scene) -> None:
    """`rm` names what would be lost; `rm -f` removes it."""
    scene.cell("echo c > /data/a")
    with pytest.raises(ContainerError, match="not applied") as caught:
        scene.verb("rm", scene.name)
    assert "rm -f" in caught.value.hint
    scene.verb("rm", "-f", scene.name)
    containers.create(scene.engine, scene.engine.images.find("busybox"), scene.name)


@pytest.mark.slow
def test_the_verbs_show_changes_and_texts(scene: Scene) -> None:
    """`changes --text` shows the lines of text files, not those of others, and what is in conflict."""
    scene.cell("echo c >> /data/a; printf '\\000' > /data/binary; rm /data/b")
    (scene.data / "b").write_text("x\n")
    text = scene.verb("changes", scene.name, "--text")
    assert "C       /data/a" in text
    assert "+c" in text.splitlines()
    assert "-x" in text.splitlines()
    assert "cannot apply /data/b: changed on the host meanwhile" in text
    assert "/data/binary" in text
    assert "+++ /data/binary" not in text
    assert "wrote 3 paths to" in scene.verb("apply", scene.name, "--force")


def test_what_the_host_changed_before_a_restore_is_in_conflict(scene: Scene) -> None:
    """A restored volume has the changes of an old cell: what the host did since that cell is not overwritten."""
    scene.cell("rm -r /data/sub")
    volume_changes.discard(scene.made)
    (scene.data / "sub" / "x").write_text("of the host, changed\n")
    scene.cell("echo 2 > /data/new")
    volume_changes.discard(scene.made)
    restore(scene.made, 1, ["/data"])
    with pytest.raises(ChangesRefused, match="changed on the host meanwhile"):
        scene.apply()
    assert (scene.data / "sub" / "x").read_text() == "of the host, changed\n"


def test_an_error_of_the_second_volume_names_the_first(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One volume after the other is written: the error says which ones are."""
    other, write = tmp_path / "other", volume_changes._write
    other.mkdir()
    scene.cell("echo 1 > /data/new; echo 1 > /other/new", f"{other}:/other:cow")

    def fail(container: Any, state: Any, *, force: bool) -> dict[str, Any]:
        if state.target == "/other":
            raise ChangesRefused("the disk is full")
        return write(container, state, force=force)

    monkeypatch.setattr(volume_changes, "_write", fail)
    with pytest.raises(ChangesRefused, match=f"^the disk is full; what was changed in {scene.data} is written"):
        scene.apply()
    assert (scene.data / "new").exists()
    assert not (other / "new").exists()


@pytest.mark.slow
def test_no_change_of_the_end_of_a_line_is_hidden(scene: Scene) -> None:
    """Only a line feed ends a line: what a person reads before `apply` shows any other change of one."""
    (scene.data / "a").write_text("# comment\ncheck || exit 1\nrun\n")
    scene.cell("printf '# comment\\013check || exit 1\\nrun' > /data/a")
    scene.cell("chmod 700 /data/b")
    lines = scene.verb("changes", scene.name, "--text").split("\n")
    assert "+++ /data/a" in lines
    assert "+++ /data/b" not in lines
    assert "-check || exit 1" in lines
    assert "\\ No newline at end of file" in lines


@pytest.mark.slow
def test_the_directory_must_be_the_same_one(scene: Scene) -> None:
    """Another directory at the path, or a link, is refused: by the next cell and by `apply`."""
    scene.cell("echo c > /data/a")
    moved = scene.data.rename(scene.data.with_name("moved"))
    scene.data.mkdir()
    with pytest.raises(ChangesRefused, match="is not the directory"):
        scene.apply()
    with pytest.raises(ContainerError, match="not applied"):
        scene.cell("true")
    scene.data.rmdir()
    scene.data.symlink_to(moved)
    with pytest.raises(ChangesRefused, match="cannot open"):
        scene.apply()
    scene.data.unlink()
    moved.rename(scene.data)
    assert scene.apply().written == 1


def test_a_store_a_file_and_other_options_are_refused(scene: Scene) -> None:
    """What cannot be a copy-on-write volume is one line."""
    for word, problem in (
        (f"{scene.data}/a:/a:cow", "is not a directory"),
        (f"{scene.data}:/data:cow,ro", "exclude each other"),
        (f"{scene.data}:/data:nosub", "requires 'cow'"),
        ("name:/data:cow", "requires a directory"),
    ):
        with pytest.raises(UsageError, match=problem):
            parse_volume(word)
    scene.data = scene.engine.store.path.parent
    with pytest.raises(UsageError, match="contains the store"):
        scene.cell("true")


@pytest.mark.slow
def test_many_layers_stay_few(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers of a volume are merged now and then; the changes stay the same."""
    monkeypatch.setattr(attaching, "MOST_LAYERS", 3)
    for number in range(6):
        scene.cell(f"cd /data; echo {number} > f{number}; rm -f f{number - 2} b; mkdir -p d; echo {number} > d/x")
    (volume,) = scene.made.record.volumes
    assert len(volume.layers) <= 3
    assert scene.cell("cd /data; ls; cat d/x").lines == ["a", "d", "f4", "f5", "link", "sub", "5"]
    scene.made.undo(2)
    assert scene.cell("cd /data; ls").lines == ["a", "d", "f2", "f3", "link", "sub"]
    scene.apply()
    assert sorted(os.listdir(scene.data)) == ["a", "d", "f2", "f3", "link", "sub"]  # noqa: PTH208


@pytest.mark.slow
def test_an_anonymous_container_keeps_its_changes_until_the_next_one(shared: Engine, data: Path) -> None:
    """`apply` writes those of the last cell; those that are not applied go with the container."""
    volume = (cast("Volume", parse_volume(f"{data}:/data:cow")),)
    run_script(shared, "echo 1 > /data/one", volumes=volume)
    assert shared.last is not None
    volume_changes.apply(shared.last)
    run_script(shared, "echo 2 > /data/two", volumes=volume)
    run_script(shared, "true")
    assert shared.last is not None
    with pytest.raises(ChangesRefused, match="nothing to apply"):
        volume_changes.apply(shared.last)
    assert sorted(path.name for path in data.iterdir()) == ["a", "b", "link", "one", "sub"]


def test_a_running_container_is_not_applied(scene: Scene) -> None:
    """While a cell holds the container, the verbs say so."""
    scene.cell("echo c > /data/a")
    with scene.made.use():
        for act in (volume_changes.list_changes, volume_changes.apply, volume_changes.discard):
            with pytest.raises(ContainerBusy) as caught:
                act(scene.made)
            assert "stop" in caught.value.hint


def test_two_volumes_are_applied_both_or_not_at_all(scene: Scene, tmp_path: Path) -> None:
    """If one of two directories is in conflict, neither is written."""
    other = tmp_path / "other"
    other.mkdir()
    scene.cell("echo 1 > /data/new; echo 1 > /other/new", f"{other}:/other:cow")
    (other / "new").write_text("host\n")
    with pytest.raises(ChangesRefused):
        scene.apply()
    assert not (scene.data / "new").exists()
    (other / "new").unlink()
    assert scene.apply().written == 2
    assert (other / "new").read_text() == "1\n"


@pytest.mark.slow
def test_mounts_in_the_directory_are_refused_or_left_out(scene: Scene) -> None:
    """A file system below the directory is named; with `nosub`, cells see what it covers, and `apply` leaves it."""
    require_root()
    (scene.data / "sub" / "in").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", scene.data / "sub" / "in"], check=True)
    try:
        with pytest.raises(UsageError, match="sub/in") as caught:
            scene.cell("true")
        assert "cow,nosub" in caught.value.hint
        assert scene.cell("ls /data/sub; touch /data/new /data/sub/in/y", options="cow,nosub").text == "in\nx"
        with pytest.raises(ChangesRefused, match="a file system is mounted there"):
            scene.apply(force=True)
        scene.made.undo()
        scene.cell("rm -r /data/sub", options="cow,nosub")
        with pytest.raises(ChangesRefused, match="a file system is mounted there"):
            scene.apply(force=True)
        scene.made.undo()
        scene.cell("touch /data/new /data/sub/y", options="cow,nosub")
        assert scene.apply().written == 2
    finally:
        subprocess.run(["umount", scene.data / "sub" / "in"], check=True)


@pytest.mark.slow
def test_a_full_directory_stays_as_it_is(scene: Scene, tmp_path: Path) -> None:
    """If the host's file system is full, `apply` says so and has changed nothing; with space, it succeeds."""
    require_root()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
    try:
        (small / "a").write_text("of the host\n")
        (small / "ballast").write_bytes(bytes(1 << 20))
        scene.data = small
        scene.cell("cd /data; head -c 1500000 /dev/zero | tr '\\0' x > big; echo c > a; rm ballast")
        before = tree(small)
        with pytest.raises(ChangesRefused, match="No space left") as caught:
            scene.apply()
        assert "free space" in caught.value.hint
        assert tree(small) == before
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        assert scene.apply().written == 3
        assert (small / "big").stat().st_size == 1500000
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_directory_of_another_user_is_one_line(scene: Scene) -> None:
    """A plain user sees the changes to a directory of root's, and cannot apply them."""
    require_plain_user()
    scene.data = Path("/usr/share")
    scene.cell("echo c > /data/new; ls /data/new")
    assert scene.changes() == ["A /data/new"]
    with pytest.raises(ChangesRefused, match="Permission denied") as caught:
        scene.apply()
    assert "permissions" in caught.value.hint


@pytest.mark.parametrize("how", ["chmod 555 /w/own", "chown 33:33 /w/own", "chown 33:33 /w/own; chmod 700 /w/own"])
def test_a_directory_that_is_closed_to_the_notebook_has_its_changes(scene: Scene, engine: Engine, how: str) -> None:
    """The directory for the changes has the owner and the mode of the volume's, and is kept all the same."""
    if engine.idmap.kind == idmap.MapKind.SINGLE and "chown" in how:
        pytest.skip("a single id has one user")
    beside = scene.data / "own"
    beside.mkdir()
    run_script(engine, how, volumes=(cast("Volume", parse_volume(f"{scene.data}:/w")),))
    scene.data = beside
    assert scene.cell("echo c > /data/new; cat /data/new").text == "c"
    assert "A /data/new" in scene.changes()
    assert scene.cell("cat /data/new").text == "c"


@pytest.mark.parametrize(("release", "good"), [("5.18.0", False), ("4.19.1-x", False), ("5.19.0", True), ("6.1", True)])
def test_an_older_kernel_is_one_line_for_root(release: str, good: bool) -> None:
    """Linux before 5.19 has no overlays on idmapped mounts: root gets one line with the way out."""
    if good:
        directories.check_kernel(release)
        return
    with pytest.raises(UsageError, match=r"require Linux 5\.19") as caught:
        directories.check_kernel(release)
    assert ":ro" in caught.value.hint


@pytest.mark.slow
def test_a_killed_notebook_leaves_a_directory_that_apply_completes(scene: Scene) -> None:
    """SIGKILL of the process that applies 300 files, at any time: the next `apply` completes it and tidies up.

    The container may have another name by then.
    """
    scene.cell("mkdir /data/n; for i in $(seq 300); do echo $i > /data/n/$i; echo $i > /data/f$i; done; rm /data/a")
    expected = 300 * 2 + 3  # with b, sub/x and link
    program = (
        "import sys; from pathlib import Path; from nbcontainer.containers import lookup\n"
        "from nbcontainer.containers.cow import volume_changes; from nbcontainer.containers.engine import Engine\n"
        "engine = Engine(Path(sys.argv[1])); made = lookup.get(engine, sys.argv[2])\n"
        "engine.launcher.pid; print('ready', flush=True); volume_changes.apply(made)"
    )
    words = [sys.executable, "-c", program, str(scene.engine.store.path), scene.name]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as notebook:
        assert notebook.stdout is not None
        assert notebook.stdout.readline() == b"ready\n"
        while notebook.poll() is None and not [*scene.data.glob(".nbcontainer-*")]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                notebook.wait(0.002)
        below = pidfds(descendants(notebook.pid))
        notebook.kill()
    assert all_dead(below)  # a sandbox may write for a moment more
    scene.made.rename(f"{scene.name}-again")
    scene.name += "-again"
    if scene.made.record.has_unapplied_changes:
        scene.apply()
    found = [path for path in scene.data.rglob("*") if not path.is_dir()]
    assert len(found) == expected
    assert scene.nothing_is_left()


def test_the_notebooks_directory_is_copy_on_write(shared: Engine, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--here=cow` starts there, at the same path, and changes stay in the layer."""
    monkeypatch.chdir(data)
    data.parent.chmod(0o755)
    ran = run_script(shared, "pwd; echo c > a; cat a", here="cow")
    assert ran.lines == [str(data), "c"], ran.stderr
    assert (data / "a").read_text() == "of the host\n"
    volume_changes.discard(ran.container)


def test_the_hosts_user_namespace_is_refused(scene: Scene) -> None:
    """`--userns=host` has no copy-on-write volumes: the layers have the containers' ids."""
    require_root()
    volume = cast("Volume", parse_volume(f"{scene.data}:/data:cow"))
    with pytest.raises(UsageError, match="--userns=host"):
        run_script(scene.engine, "true", name=scene.name, volumes=(volume,), userns="host")


def test_a_new_name_of_a_file_is_a_link_on_the_host(scene: Scene) -> None:
    """A cell links a file of the host to another name: `apply` makes it one file with two names there, too."""
    scene.cell("ln /data/a /data/again")
    scene.apply()
    assert (scene.data / "a").stat().st_ino == (scene.data / "again").stat().st_ino
    assert (scene.data / "again").read_text() == "of the host\n"
    assert scene.nothing_is_left()


def test_files_of_a_volume_are_restored_with_those_of_the_root(scene: Scene) -> None:
    """`restore` gives a volume the files of an earlier state, and `undo` takes that back; the host has no change."""
    scene.cell("echo one > /data/a; echo one > /f; mkdir /data/sub/new; echo 1 > /data/sub/new/n")
    scene.cell("echo two > /data/a; echo two > /f; rm -r /data/sub/new; echo 2 > /data/c")
    restore(scene.made, 1, ["/f", "/data/a", "/data/sub/new"])
    assert scene.cell("cat /f /data/a /data/sub/new/n /data/c").stdout.split() == [b"one", b"one", b"1", b"2"]
    assert scene.changes() == ["C /data/a", "A /data/c", "A /data/sub/new", "A /data/sub/new/n"]
    assert (scene.data / "a").read_text() == "of the host\n"
    scene.made.undo()
    assert scene.cell("cat /f /data/a; ls /data/sub").stdout.split() == [b"two", b"two", b"x"]
    scene.apply()
    assert (scene.data / "a").read_text() == "two\n"


def test_a_volumes_file_of_the_image_is_the_hosts(scene: Scene) -> None:
    """`restore dev@0 PATH` drops the changes to one path: cells see the host's present file, and `apply` the rest."""
    scene.cell("echo c > /data/a; rm /data/b; echo new > /data/c; ln -s a /data/l")
    (scene.data / "a").write_text("again\n")
    restore(scene.made, 0, ["/data/a", "/data/b", "/data/l"])
    assert scene.cell("cat /data/a /data/b; ls /data").stdout.split() == [
        *(b"again", b"stays"),
        *(b"a", b"b", b"c", b"link", b"sub"),
    ]
    assert scene.changes() == ["A /data/c"]
    scene.apply()
    assert (scene.data / "c").read_text() == "new\n"
    assert (scene.data / "a").read_text() == "again\n"


def test_nothing_is_pending_when_all_changes_are_restored_from_the_image(scene: Scene) -> None:
    """Without a change left, there is nothing to apply."""
    scene.cell("echo c > /data/a")
    restore(scene.made, 0, ["/data/a"])
    assert not scene.made.record.has_unapplied_changes
    with pytest.raises(ChangesRefused, match="nothing to apply"):
        scene.apply()


def test_a_whole_volume_is_restored(scene: Scene) -> None:
    """The path of the volume stands for all of it; a directory that a cell made anew hides the host's again."""
    scene.cell("echo 1 > /data/a; rm -r /data/sub; mkdir /data/sub; echo y > /data/sub/y")
    scene.cell("echo 2 > /data/a; echo 2 > /data/sub/z; rm /data/b")
    restore(scene.made, 1, ["/data"])
    assert scene.cell("cat /data/a; ls /data/sub /data/b").stdout.split() == [b"1", b"/data/b", b"/data/sub:", b"y"]
    scene.verb("discard", scene.name)
    restore(scene.made, 1, ["/data/sub"])
    assert scene.cell("ls /data/sub").stdout == b"y\n"
    scene.apply()
    assert sorted(path.name for path in (scene.data / "sub").iterdir()) == ["y"]


def test_a_change_of_the_host_is_in_conflict_with_a_restored_file(scene: Scene) -> None:
    """What the host changed after the container's first cell is not overwritten by a restored file either."""
    scene.cell("echo 1 > /data/a")
    scene.cell("echo 2 > /data/a")
    (scene.data / "a").write_text("again\n")
    restore(scene.made, 1, ["/data/a"])
    assert scene.conflicts() == {"/data/a": "changed on the host meanwhile"}
    with pytest.raises(ChangesRefused):
        scene.apply()


@pytest.mark.parametrize(
    ("second", "path", "problem"),
    [
        ("true", "/data/nothing", "cannot restore '/data/nothing': neither"),
        ("rm -r /data/sub", "/data/sub/x", "cannot restore below '/sub' of the volume: it is not a directory now"),
        ("rm -r /data/sub; ln -s . /data/sub", "/data/sub/x", "cannot restore below '/sub' of the volume"),
        ("rm -r /data/sub; mkdir /data/sub", "/data/sub/x", "cannot restore '/sub/x' of the volume: a directory above"),
    ],
)
def test_a_path_of_a_volume_that_cannot_be_restored_is_one_line(
    scene: Scene, second: str, path: str, problem: str
) -> None:
    """The error names the path and the next step, and the container stays as it is, in the root too."""
    scene.cell("echo 1 > /data/a; echo one > /f")
    scene.cell(f"{second}; echo two > /f")
    count = scene.made.record.count
    with pytest.raises(ContainerError) as caught:
        restore(scene.made, 0, ["/f", path])
    assert problem in str(caught.value)
    assert caught.value.hint
    assert scene.made.record.count == count
    scene.engine.background.wait()
    assert check_containers(scene.engine.store) == []


def test_history_counts_the_files_of_a_volume(scene: Scene) -> None:
    """What a cell added, changed and removed there is added to what it did elsewhere."""
    scene.cell("echo 12345 > /data/new; echo root > /f; echo 1 > /data/a")
    scene.cell("echo 123 > /data/new; rm /data/b /data/link; mkdir /data/d; echo 1 > /data/d/f")
    scene.cell("rm -r /data/d /data/new")
    made = scene.made
    states = list(made.history.chain())[::-1]
    counts = with_volumes(made.workspace, states, counts_of(made.workspace, made.record.base, states))
    assert counts[states[0].id] == CellCounts(added=2, added_bytes=11, changed=1, changed_bytes=2)
    second = CellCounts(added=1, added_bytes=2, changed=1, changed_bytes=4, removed=2, removed_bytes=6 + len("a"))
    assert counts[states[1].id] == second
    assert counts[states[2].id] == CellCounts(removed=2, removed_bytes=6)
    scene.apply()
    assert "apply /data" in scene.verb("history", scene.name)


@pytest.mark.slow
def test_history_counts_a_cell_that_changed_a_volume_alone(scene: Scene) -> None:
    """`history` says that the cell changed something, and lists `apply` as a step that `undo` takes back."""
    scene.cell("true")
    scene.cell("echo c > /data/a")
    scene.apply()
    lines = scene.verb("history", scene.name).splitlines()
    assert "1 (2 B)" in lines[2]
    assert "yes" in lines[3]
    assert "apply /data" in lines[3]
    scene.made.undo()
    assert scene.made.record.has_unapplied_changes


def compared(scene: Scene, *words: str) -> list[str]:
    """The changes that `diff` lists, each as `A /path`."""
    verb = VERBS["diff"]
    found: Any = verb.run(Invocation(scene.engine, parse(verb.command, list(words))))
    return [str(change) for change in found]


def test_two_states_are_compared_in_their_volumes(scene: Scene) -> None:
    """`diff A B` lists what cells see in a volume: changed, added and deleted paths, between any two states."""
    scene.cell("echo 1 > /data/a; rm /data/b; echo > /top")
    scene.cell("rm -r /data/sub; mkdir /data/sub; echo 2 > /data/sub/y; ln -sf b /data/link")
    first, second = f"{scene.name}@1", f"{scene.name}@2"
    assert compared(scene, f"{scene.name}@0", first) == ["A /data", "C /data/a", "D /data/b", "A /top"]
    assert compared(scene, first, second) == ["C /data/link", "C /data/sub", "D /data/sub/x", "A /data/sub/y"]
    assert compared(scene, scene.name, first) == ["C /data/link", "C /data/sub", "A /data/sub/x", "D /data/sub/y"]
    assert compared(scene, second, scene.name) == []


def test_the_lines_of_a_volumes_files_are_compared(scene: Scene) -> None:
    """`diff A B --text` has the lines of both states, and `diff CONTAINER` the root alone."""
    scene.cell("echo one > /data/a")
    scene.cell("echo two > /data/a; echo > /top")
    found = scene.verb("diff", f"{scene.name}@1", scene.name, "--text")
    assert "--- a/data/a\n+++ b/data/a\n@@ -1 +1 @@\n-one\n+two" in found
    first = scene.verb("diff", f"{scene.name}@0", f"{scene.name}@1", "--text")
    assert "-of the host\n+one" in first
    assert "/data/a" not in scene.verb("diff", scene.name, "--text")
    assert "/top" in scene.verb("diff", scene.name)


def test_states_before_and_after_apply_are_compared_on_the_present_directory(scene: Scene) -> None:
    """What `apply` wrote is the host's: both states see it, until the host changes it again."""
    scene.cell("echo 1 > /data/a")
    scene.apply()
    assert compared(scene, f"{scene.name}@1", scene.name) == []
    (scene.data / "a").write_text("again\n")
    assert compared(scene, f"{scene.name}@1", scene.name) == ["C /data/a"]


def test_states_with_another_directory_are_not_compared(scene: Scene, tmp_path: Path) -> None:
    """If a volume is another directory in the second state, an error names both."""
    scene.cell("echo 1 > /data/a")
    scene.verb("discard", scene.name)
    scene.data = tmp_path / "other"
    scene.data.mkdir()
    scene.cell("echo 1 > /data/a")
    with pytest.raises(ContainerError) as caught:
        scene.verb("diff", f"{scene.name}@1", scene.name)
    assert "cannot compare volume '/data'" in str(caught.value)
    assert str(tmp_path / "other") in str(caught.value)
