"""The verbs, on a real store and with the sandboxed work done in this process."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation, count, one_line
from nbcontainer.commands.containers import VERBS, overview, unknown
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.verbs.copying_verb import left_out
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.record import check_name
from nbcontainer.errors import (
    ContainerBusy,
    ContainerDamaged,
    ContainerError,
    ContainerExists,
    ContainerNotFound,
    ImageError,
    ImageNotFound,
    NbcontainerError,
    UsageError,
    VolumeNotFound,
)
from nbcontainer.outcome import Outcome, Reason
from tests.unit.images.in_process import InProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.container import Container


class Unprivileged(Engine):
    """An engine that starts no launcher: what would be done in a sandbox is done in this process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.runner = InProcess(self.store.path)

    @property
    def single_id(self) -> bool:
        return self.runner.single_id

    def later(self, chore: Callable[[], object]) -> None:
        chore()

    def on_directory(self, function: Callable[..., Any], path: str, *args: Any, **keywords: Any) -> Any:
        return self.runner.on_directory(function, path, *args, **keywords)

    def on_layers(self, function: Callable[..., Any], lowers: Any, *args: Any, **keywords: Any) -> Any:
        return self.runner.on_layers(function, lowers, *args, **keywords)


class Verbs:
    """Does verbs as a person writes them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, line: str) -> Any:
        name, *words = line.split()
        return VERBS[name].run(Invocation(self.engine, parse(VERBS[name].command, words)))


@pytest.fixture
def verbs(tmp_path: Path) -> Iterator[Verbs]:
    """Verbs on an empty store."""
    engine = Unprivileged(tmp_path / "store")
    yield Verbs(engine)
    engine.close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A root file system tar with one file."""
    path = tmp_path / "My Root.v2.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("file")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    return path.rename(tmp_path / "My_Root.v2.tar")


@pytest.fixture
def dev(verbs: Verbs, archive: Path) -> Container:
    """A container with two cells, of which one changed something."""
    verbs(f"import {archive} base")
    engine = verbs.engine
    made = containers.create(engine, engine.store.index.image("base"), "dev")
    place = engine.store.new_directory(engine.store.path / "layers" / engine.store.unique(), give=False)
    (engine.store.new_directory(place / "diff") / "added").write_text("new")
    with made.use():
        made.add_cell(CellRecord(place.name, "echo new > /added\n", "2026-11-24T20:00:00Z", Outcome(Reason.EXITED, 0)))
        made.add_cell(CellRecord("", "x" * 100, "2026-11-24T20:00:01Z", Outcome(Reason.SIGNAL, 139)))
    return made


def test_import_names_the_image_by_its_file(verbs: Verbs, archive: Path) -> None:
    """Without a name, an import is called as its file is, in what a name may have."""
    assert str(verbs(f"import {archive}")).startswith("my-root-v2  sha256:")
    assert [row[0] for row in verbs("images").rows] == ["my-root-v2"]


def test_import_sets_the_configuration(verbs: Verbs, archive: Path) -> None:
    """`--change` is in the image's configuration."""
    call = Invocation(
        verbs.engine, parse(VERBS["import"].command, [str(archive), "base", "--change", 'CMD ["cat", "/file"]'])
    )
    VERBS["import"].run(call)
    assert verbs("inspect base").as_json()["config"]["config"]["Cmd"] == ["cat", "/file"]


def test_images_are_listed(verbs: Verbs, archive: Path) -> None:
    """An empty store says so; an image is listed with its digest, layers and size."""
    assert str(verbs("images")) == "no images"
    verbs(f"import {archive} base:1")
    (row,) = verbs("images").rows
    assert (row[0], row[2]) == ("base:1", "1")
    assert verbs.engine.store.index.image("base:1").digest.startswith(f"sha256:{row[1]}")


def test_an_export_is_the_imported_tree(verbs: Verbs, archive: Path, tmp_path: Path) -> None:
    """What is exported of an image is what was imported."""
    verbs(f"import {archive} base")
    assert str(verbs(f"export base -o {tmp_path}/out.tar")).startswith(f"{tmp_path}/out.tar  ")
    with tarfile.open(tmp_path / "out.tar") as tar:
        member = tar.extractfile("file")
        assert member is not None
        assert member.read() == b"hello"


@pytest.mark.usefixtures("dev")
def test_containers_are_listed(verbs: Verbs) -> None:
    """`ps` has a container's image, state, number of cells, and the beginning of its last cell."""
    (row,) = verbs("ps").rows
    assert row[:4] == ("dev", "base", "stopped", "2")
    assert row[5] == "x" * 47 + "…"


@pytest.mark.usefixtures("dev")
def test_history_is_the_cells(verbs: Verbs) -> None:
    """`history` has a line for each cell: how it ended, and what it added, changed and removed."""
    rows = verbs("history dev").rows
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[0][1:] == ("2026-11-24T20:00:00Z", "exited", "0", "0 ms", "1 (3 B)", "", "", "echo new > /added")
    assert rows[1][2:8] == ("signal", "139", "0 ms", "", "", "")


def test_inspect_shows_containers_and_images(verbs: Verbs, dev: Container) -> None:
    """`inspect` gives a container's record or an image's documents, and several as a list."""
    found = verbs("inspect dev").as_json()
    assert (found["name"], found["running"], found["layers"]) == ("dev", None, list(dev.layers))
    image = verbs("inspect base").as_json()
    assert image["manifest"]["schemaVersion"] == 2
    assert [one["name"] for one in json.loads(str(verbs("inspect dev base")))] == ["dev", "base"]
    assert str(verbs("inspect -f {{.State.Status}} dev")) == "exited"
    assert str(verbs("inspect -f {{.Config.Image}} dev")) == "base"
    assert json.loads(str(verbs("inspect -f RootFS.Layers base"))) == image["config"]["rootfs"]["diff_ids"]


def test_rm_takes_the_container_and_what_only_it_has(verbs: Verbs, dev: Container) -> None:
    """A removed container's record and layers are gone; its image stays."""
    store = verbs.engine.store
    layer = dev.cells[0].layer
    assert str(verbs("rm dev")) == "removed dev"
    assert not (store.path / "containers" / "dev").exists()
    assert not (store.path / "layers" / layer).exists()
    assert str(verbs("ps")) == "no containers"
    assert store.index.image("base").name == "base"


@pytest.mark.usefixtures("dev")
@pytest.mark.parametrize("line", ["rm nope dev", "rm dev nope", "rmi nope base"])
def test_what_is_missing_keeps_nothing_else_from_being_removed(verbs: Verbs, line: str) -> None:
    """`rm` and `rmi` of several remove those that are there, and the error says so; with --force it is none."""
    removed = line.split()[1] if line.endswith("nope") else line.split()[2]
    with pytest.raises((ContainerNotFound, ImageNotFound), match=f"'?nope'?.*; removed {removed}"):
        verbs(line)
    assert str(verbs(f"{line.replace(' ', ' -f ', 1)}")) == "nothing to remove"


@pytest.mark.usefixtures("dev")
def test_volumes_that_are_there_are_removed(verbs: Verbs) -> None:
    """`volume rm` of several removes those that are there, and the error says so."""
    verbs("volume create data")
    with pytest.raises(VolumeNotFound, match=r"'nope'.*; removed data"):
        verbs("volume rm nope data")
    assert str(verbs("volume rm -f nope data")) == "nothing to remove"


def test_each_verb_has_json(verbs: Verbs, tmp_path: Path) -> None:
    """`--json` returns values after every verb, those of the groups `volume` and `cache` too, and is in their help."""
    every = [*VERBS.values(), *(one for verb in VERBS.values() for one in verb.verbs.values())]
    assert [verb.command.name for verb in every if "--json" not in verb.command.spelled] == []
    assert verbs("volume create data --json").as_json() == "data"
    assert [row["name"] for row in json.loads(str(verbs("volume ls --json")))] == ["data"]
    assert json.loads(str(verbs(f"cache export {tmp_path}/results --json"))).endswith("0 results")


@pytest.mark.usefixtures("dev")
@pytest.mark.parametrize("verb", ["stop", "kill", "restart"])
def test_each_container_is_tried(verbs: Verbs, verb: str) -> None:
    """`stop`, `kill` and `restart` go on after a container that does not exist, and the error names all that failed."""
    with pytest.raises(ContainerError, match=r"'nope'.*dev"):
        verbs(f"{verb} nope dev")


def test_a_layer_that_is_shared_stays(verbs: Verbs, dev: Container) -> None:
    """A layer that another container has too is not removed with the first."""
    engine = verbs.engine
    other = containers.create(engine, engine.store.index.image("base"), "other")
    with other.use():
        other.add_cell(dev.cells[0])
    verbs("rm dev")
    assert (engine.store.path / "layers" / dev.cells[0].layer).exists()
    verbs("rm other")
    assert not (engine.store.path / "layers" / dev.cells[0].layer).exists()


def test_undo_takes_back_the_last_change(verbs: Verbs, dev: Container) -> None:
    """The container is as before the last cell that changed something; its layer stays until `prune`."""
    layer = verbs.engine.store.path / "layers" / dev.cells[0].layer
    assert str(verbs("undo dev")) == "dev: undid: echo new > /added"
    assert verbs("history dev").rows == ()
    assert layer.exists()
    with pytest.raises(ContainerError, match="nothing to undo: no cell changed container 'dev'"):
        verbs("undo dev")


def test_redo_goes_forward_to_where_undo_came_from(verbs: Verbs, dev: Container) -> None:
    """`redo` is the reverse of `undo`, cells that changed nothing included; a new cell leaves nothing to redo."""
    before = verbs("history dev").rows
    verbs("undo dev")
    assert str(verbs("redo dev")) == "dev: redid: echo new > /added"
    assert verbs("history dev").rows == before
    with pytest.raises(ContainerError, match="nothing to redo: container 'dev' is at its newest state; undone states"):
        verbs("redo dev")
    verbs("undo dev")
    with dev.use():
        dev.add_cell(CellRecord("", "true", "2026-11-24T20:00:02Z", Outcome(Reason.EXITED, 0)))
    with pytest.raises(ContainerError, match="nothing to redo"):
        verbs("redo dev")


def test_more_is_undone_and_redone_at_once(verbs: Verbs, dev: Container) -> None:
    """`-n` counts cells that changed something; more than there are is refused, and nothing moves."""
    engine = verbs.engine
    for number in range(3):
        place = engine.store.new_directory(engine.store.path / "layers" / engine.store.unique(), give=False)
        (engine.store.new_directory(place / "diff") / "more").write_text("")
        with dev.use():
            dev.add_cell(CellRecord(place.name, f"cell {number}", "2026-11-24T20:00:02Z", Outcome(Reason.EXITED, 0)))
    with pytest.raises(ContainerError, match="cannot undo 5 cells of container 'dev': only 4 changed something;"):
        verbs("undo dev -n 5")
    assert str(verbs("undo dev -n 3")) == "dev: undid 3 cells, back to: cell 0"
    assert len(verbs("history dev").rows) == 2
    with pytest.raises(ContainerError, match="cannot redo 4 cells of container 'dev': only 3 changed something;"):
        verbs("redo dev -n 4")
    assert str(verbs("redo dev -n 2")) == "dev: redid 2 cells, up to: cell 1"
    assert str(verbs("redo dev")) == "dev: redid: cell 2"
    for word in ("0", "-1", "x", "1.5"):
        with pytest.raises(UsageError):
            verbs(f"undo dev -n {word}")


def more(verbs: Verbs, dev: Container, *commands: str) -> None:
    """Add cells to a container that wrote something."""
    store = verbs.engine.store
    for command in commands:
        place = store.layers.make_private(store.unique())
        (store.new_directory(place / "diff") / "more").write_text(command)
        with dev.use():
            dev.add_cell(CellRecord(place.name, command, "2026-11-24T20:00:02Z", Outcome(Reason.EXITED, 0)))


def test_undone_cells_keep_their_numbers_and_are_listed_until_prune(verbs: Verbs, dev: Container) -> None:
    """A cell after an undo is a branch with a new number; `history --all` has both until `prune` drops the undone."""
    more(verbs, dev, "three", "four")
    verbs("undo dev -n 2")
    more(verbs, dev, "five")
    assert [row[0] for row in verbs("history dev").rows] == ["1", "2", "5"]
    rows = verbs("history dev --all").rows
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row[-1] for row in rows if "undone" in row] == ["three", "four"]
    layers = len(list((verbs.engine.store.path / "layers").iterdir()))
    verbs("prune")
    assert [row[0] for row in verbs("history dev --all").rows] == ["1", "2", "5"]
    assert len(list((verbs.engine.store.path / "layers").iterdir())) == layers - 2
    assert [row[0] for row in verbs("history dev").rows] == ["1", "2", "5"]
    more(verbs, dev, "six")
    assert [row[0] for row in verbs("history dev").rows] == ["1", "2", "5", "6"]


def test_prune_leaves_nothing_to_redo(verbs: Verbs, dev: Container) -> None:
    """After `prune` the undone states are gone, and the next cell has a number of its own."""
    more(verbs, dev, "three")
    verbs("undo dev")
    verbs("prune")
    with pytest.raises(ContainerError, match="nothing to redo"):
        verbs("redo dev")
    more(verbs, dev, "four")
    assert [row[0] for row in verbs("history dev").rows] == ["1", "2", "4"]


def test_a_checkout_shares_the_states_and_goes_its_own_way(verbs: Verbs, dev: Container) -> None:
    """`checkout dev@3 --name fork` is a container in that state; neither sees what the other does, nor its removal."""
    more(verbs, dev, "three", "four")
    layers = dev.layers
    assert str(verbs("checkout dev@3 --name fork")) == "created fork from dev@3"
    fork = containers.get(verbs.engine, "fork")
    assert fork.layers == layers[:-1]
    more(verbs, fork, "own")
    assert [row[0] for row in verbs("history fork").rows] == ["1", "2", "3", "4"]
    assert verbs("history fork").rows[-1][-1] == "own"
    assert verbs("history dev").rows[-1][-1] == "four"
    assert str(verbs("checkout fork@2 --name again")) == "created again from fork@2"
    assert str(verbs("checkout fork@0 --name fresh")) == "created fresh from fork@0"
    assert str(verbs("undo fork -n 2")) == "fork: undid 2 cells, back to: three"
    verbs("redo fork -n 2")
    verbs("rm dev")
    verbs.engine.background.wait()
    verbs("prune")
    kept = {path.name for path in (verbs.engine.store.path / "layers").iterdir()}
    assert kept == {*containers.get(verbs.engine, "fork").layers, "sha256"}
    assert [row[0] for row in verbs("history again").rows] == ["1", "2"]
    assert verbs("history fresh").rows == ()
    verbs("rm fork again fresh")
    verbs.engine.background.wait()
    verbs("prune")
    assert {path.name for path in (verbs.engine.store.path / "layers").iterdir()} == {fork.record.base[0], "sha256"}
    verbs.engine.close()
    later = Unprivileged(verbs.engine.store.path)
    Verbs(later)("prune")
    later.close()
    assert not list((later.store.path / "journals").iterdir())


def test_a_renamed_container_is_the_same_one(verbs: Verbs, dev: Container) -> None:
    """`rename` keeps the cells, the undone ones too, the layers and the labels; the old name is free again."""
    more(verbs, dev, "three", "four")
    verbs("undo dev")
    before, layers = verbs("history dev --all").as_json(), containers.get(verbs.engine, "dev").layers
    assert str(verbs("rename dev model")) == "dev is now model"
    assert verbs("ps -q").texts == ("model",)
    assert verbs("history model --all").as_json() == before
    assert containers.get(verbs.engine, "model").layers == layers
    assert containers.get(verbs.engine, "model").as_dict()["name"] == "model"
    verbs("redo model")
    with pytest.raises(ContainerNotFound):
        verbs("history dev")
    more(verbs, containers.get(verbs.engine, "model"), "five")
    assert verbs("history model").rows[-1][-1] == "five"
    verbs("checkout model@1 --name dev")
    verbs("rm dev model")


def test_the_last_container_has_its_new_name(verbs: Verbs, dev: Container) -> None:
    """A verb without a container means the notebook's last one, after a rename as before."""
    verbs.engine.last = dev
    before = verbs("history").as_json()
    verbs("rename dev model")
    assert verbs("history").as_json() == before
    assert str(verbs("undo")).startswith("model: undid: ")


def test_a_directory_without_a_record_takes_no_name(verbs: Verbs, dev: Container) -> None:
    """What a killed process left is removed, and not a part of the container."""
    left = verbs.engine.store.path / "containers" / "model"
    left.mkdir()
    (left / "output.log").write_text("of another one", encoding="utf-8")
    verbs("rename dev model")
    assert not (left / "output.log").exists()
    assert containers.get(verbs.engine, "model").layers == dev.layers


def test_an_anonymous_container_keeps_its_name(verbs: Verbs, dev: Container) -> None:
    """It ends with its notebook: the error shows how a copy gets a name."""
    one = verbs.engine.last = containers.create_anonymous(verbs.engine, dev.image())
    with pytest.raises(ContainerError, match=r"cannot rename container .*: it is anonymous; name a copy of it"):
        verbs(f"rename {one.name} model")


@pytest.mark.usefixtures("dev")
@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("rename nope other", ContainerNotFound, "no such container: 'nope'"),
        ("rename dev ../x", UsageError, "invalid container name '../x'"),
        ("rename dev other", ContainerExists, "container 'other' already exists"),
        ("rename dev dev", ContainerExists, "container 'dev' already exists"),
        ("rename dev", UsageError, "rename: missing argument; write `rename [OPTIONS] CONTAINER NEW`"),
        ("rename dev a b", UsageError, "rename: unexpected argument 'b'"),
    ],
)
def test_what_rename_refuses(verbs: Verbs, line: str, error: type[NbcontainerError], message: str) -> None:
    """An unknown container, an invalid name and one in use are one line, and both containers stay as they are."""
    verbs("checkout dev@0 --name other")
    shown = ("ps", "history dev", "history other")
    before = [verbs(one).as_json() for one in shown]  # ages change
    with pytest.raises(error) as raised:
        verbs(line)
    assert str(raised.value).startswith(message)
    assert [verbs(one).as_json() for one in shown] == before


def test_a_running_container_keeps_its_name(verbs: Verbs, dev: Container) -> None:
    """A cell, here or in another notebook, uses the files by the name: the error shows how to stop it."""
    with dev.use(), pytest.raises(ContainerBusy, match=r"container 'dev' is running, .*%container stop dev"):
        verbs("rename dev model")
    verbs("rename dev model")


@pytest.mark.usefixtures("dev")
@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("checkout dev@9 --name f", ContainerError, "container 'dev' has no state 9; list the states with"),
        ("checkout dev@x --name f", UsageError, "invalid state 'dev@x'; write CONTAINER@N"),
        ("checkout nope@1 --name f", ContainerNotFound, "no such container: 'nope'"),
        ("checkout dev@1 --name dev", ContainerExists, "container 'dev' already exists"),
        ("checkout dev@1 --name a/b", UsageError, "invalid container name 'a/b'"),
        ("checkout dev@1", UsageError, "checkout: missing name; write"),
        ("redo dev", ContainerError, "nothing to redo: container 'dev' is at its newest state"),
        ("undo dev -n 2", ContainerError, "cannot undo 2 cells of container 'dev': only 1 changed something"),
    ],
)
def test_what_history_cannot_do(verbs: Verbs, line: str, error: type[NbcontainerError], message: str) -> None:
    """Unknown states, names in use and too many steps are one line with the next step, and change nothing."""
    before = verbs("ps").as_json(), verbs("history dev").as_json()  # ages change
    with pytest.raises(error) as raised:
        verbs(line)
    assert str(raised.value).startswith(message)
    assert raised.value.hint
    assert (verbs("ps").as_json(), verbs("history dev").as_json()) == before


def test_the_tree_has_each_state_once(verbs: Verbs, dev: Container) -> None:
    """`tree` draws branches and names as lines, and as SVG in which nothing of a cell is markup."""
    more(verbs, dev, "three", "<b>four</b>")
    verbs("checkout dev@3 --name fork")
    fork = containers.get(verbs.engine, "fork")
    more(verbs, fork, "five")
    verbs("checkout dev@0 --name fresh")
    assert str(verbs("tree")).splitlines() == [
        "base  (fresh)",
        "* 1 echo new > /added",
        f"* 2 {'x' * 47}…",
        "* 3 three",
        "|-* 4 five  (fork)",
        "* 4 <b>four</b>  (dev)",
    ]
    drawn = verbs("tree")._repr_html_()
    assert "<b>" not in drawn
    assert "&lt;b&gt;four" in drawn
    assert drawn.count("<circle") == 5


def test_undo_leaves_a_layer_that_is_shared(verbs: Verbs, dev: Container) -> None:
    """What another container has too stays for that one."""
    engine = verbs.engine
    other = containers.create(engine, engine.store.index.image("base"), "other")
    with other.use():
        other.add_cell(dev.cells[0])
    verbs("undo dev")
    assert (engine.store.path / "layers" / other.cells[0].layer).exists()


def test_an_image_in_use_stays_for_its_container(verbs: Verbs, dev: Container) -> None:
    """`rmi` takes the name away; what a container needs of the image stays until that is gone, too."""
    store = verbs.engine.store
    assert str(verbs("rmi base")) == "removed base"
    verbs.engine.background.wait()
    verbs("prune")
    assert dev.image().layers
    assert all((store.path / "layers" / layer).exists() for layer in dev.layers)
    verbs("rm dev")
    verbs.engine.background.wait()
    verbs("prune")
    assert [path.name for path in (store.path / "layers").iterdir()] == ["sha256"]
    assert not list((store.path / "blobs" / "sha256").iterdir())


@pytest.mark.usefixtures("dev")
def test_a_damaged_container_can_be_seen_and_removed(verbs: Verbs) -> None:
    """`ps` says that its record cannot be read, using it fails, and `rm` removes it."""
    (verbs.engine.store.path / "containers" / "dev" / "container.json").write_text("{")
    assert [row[:3] for row in verbs("ps").rows] == [("dev", "", "damaged")]
    with pytest.raises(ContainerDamaged):
        verbs("history dev")
    verbs("rm dev")
    assert str(verbs("ps")) == "no containers"


def test_one_process_at_a_time_uses_a_container(verbs: Verbs, dev: Container) -> None:
    """While somebody holds a container it is busy for all others, and free again afterwards."""
    with (
        dev.use(),
        pytest.raises(ContainerBusy, match="wait for it, or stop it first: `%co"),
    ):
        verbs("rm dev")
    verbs("rm dev")


@pytest.mark.usefixtures("dev")
@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("rm nope", ContainerNotFound, "no such container: 'nope'; list containers with `%container ps`"),
        ("rm ../x", UsageError, "invalid container name '../x'"),
        ("stop nope", ContainerNotFound, "no such container: 'nope'"),
        ("history nope", ContainerNotFound, "no such container or image: 'nope'"),
        ("inspect nope", ContainerNotFound, "no such container or image: 'nope'"),
        ("export nope -o x.tar", ContainerNotFound, "no such container or image: 'nope'"),
        ("export base", UsageError, "export: missing output file; write `export NAME -o FILE.tar`"),
        ("rmi nope", ImageNotFound, "no image 'nope' in the store"),
        ("import /no/such.tar", ImageNotFound, "no file /no/such.tar; check the path"),
        (f"import /{'x' * 300}", ImageError, f"cannot read /{'x' * 300}: File name too long; choose a shorter path"),
        (
            "import /etc/passwd/x",
            ImageError,
            "cannot read /etc/passwd/x: Not a directory; check the path: a part of it",
        ),
        (f"save base -o /{'x' * 300}", ImageError, f"cannot write /{'x' * 300}: File name too long; choose a"),
        (f"export base -o /{'x' * 300}", ImageError, f"cannot write /{'x' * 300}: File name too long; choose a"),
        ("import -", UsageError, "import: missing image name"),
        ("import / base", ImageError, ""),
        ("commit dev Upper", UsageError, "invalid image name 'Upper'"),
        ("history", ContainerNotFound, "no container yet, and none is named; run a cell"),
    ],
)
def test_what_cannot_be_done(verbs: Verbs, line: str, error: type[NbcontainerError], message: str) -> None:
    """A verb that cannot do it says why and what to do, and changes nothing."""
    before = verbs("ps").as_json(), verbs("images").as_json()  # ages change
    with pytest.raises(error) as raised:
        verbs(line)
    assert str(raised.value).startswith(message)
    assert raised.value.hint
    assert (verbs("ps").as_json(), verbs("images").as_json()) == before


@pytest.mark.usefixtures("dev")
def test_a_name_is_taken_once(verbs: Verbs) -> None:
    """A second container of the same name is refused."""
    with pytest.raises(ContainerExists, match="container 'dev' already exists; use it"):
        containers.create(verbs.engine, verbs.engine.store.index.image("base"), "dev")


@pytest.mark.usefixtures("dev")
def test_what_does_not_run_is_not_stopped(verbs: Verbs) -> None:
    """`stop` of a container in which nothing runs says so."""
    assert str(verbs("stop dev")) == "dev was not running"


@pytest.mark.parametrize("name", ["", "-x", ".x", "a/b", "a b", "é", "x" * 64, "..", "a\n"])
def test_what_is_no_name(name: str) -> None:
    """A container's name is a directory's and a host's too: others are refused."""
    with pytest.raises(UsageError, match=r"invalid container name .*; use up to 63 letters"):
        check_name(name)


def test_unknown_verbs_are_guessed() -> None:
    """A verb that is nearly one is guessed; an image's name is told how images are run."""
    assert str(unknown("imges")) == "unknown verb 'imges'; did you mean images; see `%container --help`"
    assert str(unknown("ubuntu")) == (
        "unknown verb 'ubuntu'; see `%container --help`; to run an image of that name, write `%container run ubuntu`"
    )
    assert str(unknown("dbug", "nbcontainer", ("debug", "run"))) == (
        "unknown verb 'dbug'; did you mean debug; see `nbcontainer --help`"
    )


def test_the_overview_has_a_line_for_each_verb() -> None:
    """Each verb's usage and what it does stand in one line."""
    lines = overview("> ").splitlines()
    assert len(lines) == len(VERBS)
    for line, verb in zip(lines, VERBS.values(), strict=True):
        assert line.startswith(f"  > {verb.command.usage} ")
        assert line.endswith(verb.command.help)


def test_words_for_people() -> None:
    """One is singular, and a long text is cut to one line."""
    assert (count(1, "layer"), count(2, "layer"), count(0, "thing")) == ("1 layer", "2 layers", "0 things")
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("abcdef", 4) == "abc…"


def test_a_container_that_is_being_removed_is_not_listed(verbs: Verbs, dev: Container) -> None:
    """Of anonymous containers on disk, `ps` lists the last one; the one before is removed behind the cell's back."""
    engine = verbs.engine
    engine.last = containers.create_anonymous(engine, engine.store.index.image("base"))
    before = containers.create_anonymous(engine, engine.store.index.image("base"))
    before.add_cell(dev.cells[0])
    assert {row[0] for row in verbs("ps").rows} == {"dev", engine.last.name}


@pytest.mark.parametrize(
    ("special", "links", "phrases"),
    [
        (0, 0, []),
        (1, 1, ["1 special file was left out", "1 link that leads out of the copy was left out"]),
        (2, 2, ["2 special files were left out", "2 links that lead out of the copy were left out"]),
    ],
)
def test_what_a_copy_left_out_is_counted(special: int, links: int, phrases: list[str]) -> None:
    """One file and several have their own grammar."""
    assert left_out(special, links) == phrases
