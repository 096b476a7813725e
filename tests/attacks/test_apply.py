"""Copy-on-write volumes: what a container makes in its layer, or in the host's directory while `apply` writes there."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import threading
from typing import TYPE_CHECKING, cast

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cow import interrupted, volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ChangesRefused, LinkRefused
from nbcontainer.images.cow import before, comparing, merged, placing, recovering
from nbcontainer.images.cow.staging_area import LOG, StagingArea
from tests.attacks.ways import ALL
from tests.requirements import require, require_root
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.sandbox.spec import Volume


class Target:
    """A directory of the host's, a secret beside it, and a container that has the directory as a volume."""

    def __init__(self, engine: Engine, top: Path) -> None:
        self.engine = engine
        self.data = top / "data"
        self.secret = top / "secret"
        (self.data / "sub").mkdir(parents=True)
        (self.data / "sub" / "f").write_text("of the host\n")
        self.secret.mkdir()
        (self.secret / "f").write_text("secret\n")
        self.name = f"apply-{os.urandom(4).hex()}"
        containers.create(engine, engine.images.find("busybox"), self.name)

    def cell(self, script: str, *, name: str = "-", options: str = "cow") -> None:
        """Run a cell with the volume at /data."""
        volume = cast("Volume", parse_volume(f"{self.data}:/data:{options}"))
        name = self.name if name == "-" else name
        ran = run_script(self.engine, script, name=name, volumes=(volume,))
        assert ran.outcome.ok, ran.stderr

    def apply(self, *, force: bool = False) -> volume_changes.Applied:
        """Apply the container's changes."""
        return volume_changes.apply(containers.get(self.engine, self.name), force=force)

    def secret_is_safe(self) -> bool:
        """Whether nothing beside the directory has changed."""
        return os.listdir(self.secret) == ["f"] and (self.secret / "f").read_text() == "secret\n"


@pytest.fixture(scope="module")
def shared(store_path: Path, _containers_work: str) -> Iterator[Engine]:
    """One engine for the tests of this file."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    opened = Engine(store_path)
    run_script(opened, "true")
    yield opened
    opened.close()


@pytest.fixture
def target(shared: Engine, tmp_path: Path) -> Iterator[Target]:
    """What is attacked."""
    made = Target(shared, tmp_path)
    yield made
    containers.get(shared, made.name).remove()


def test_a_link_of_a_layer_is_a_link_on_the_host(target: Target) -> None:
    """A link that replaces a directory or a file is written as a link, and nothing is written through it."""
    target.cell(f"cd /data; rm -r sub; ln -s {target.secret} sub; ln -s {target.secret}/f link; ln -s ../secret/f up")
    target.apply()
    assert (target.data / "sub").is_symlink()
    target.cell("cd /data; rm sub; mkdir sub; echo x > sub/f; rm link up; echo x > link; echo x > up")
    target.apply()
    assert not (target.data / "sub").is_symlink()
    assert (target.data / "up").read_text() == "x\n"
    assert target.secret_is_safe()


@pytest.mark.parametrize("planted", ["sub", "sub/f"])
@pytest.mark.parametrize("force", [False, True])
def test_a_link_on_the_host_is_replaced_and_not_followed(target: Target, planted: str, *, force: bool) -> None:
    """Another container plants a link where `apply` writes: it is in conflict, and with `--force` it is replaced."""
    target.cell("echo mine > /data/sub/f; echo new > /data/sub/new")
    place = target.data / planted
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(target.secret if planted == "sub" else target.secret / "f")
    if not force:
        with pytest.raises(ChangesRefused, match="meanwhile"):
            target.apply()
    else:
        target.apply(force=True)
        assert not place.is_symlink()
        assert (target.data / "sub" / "f").read_text() == "mine\n"
    assert target.secret_is_safe()


def test_no_rights_are_left_on_the_host(target: Target) -> None:
    """Files lose setuid and setgid bits and file capabilities; overlay's attributes stay in the layer."""
    target.cell(
        "cd /data; cp /bin/busybox s; chmod 6755 s; mkdir d; cp s d/t; chmod 4711 d/t; echo x > sub/f; chmod 2755 sub/f"
    )
    target.apply()
    for name, mode in (("s", 0o755), ("d/t", 0o711), ("sub/f", 0o755)):
        path = target.data / name
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.listxattr(path) == []


def test_a_capability_of_a_file_is_left_out(target: Target, tmp_path: Path) -> None:
    """`security.capability` in a layer, which the kernel would translate to the host's root, is not written."""
    require_root()
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "f").write_text("x")
    os.setxattr(layer / "f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(layer / "f", "user.kept", b"1")
    apply_by_hand(target.data, layer)
    assert os.listxattr(target.data / "f") == ["user.kept"]


def apply_by_hand(data: Path, *layers: Path, mounts: tuple[bytes, ...] = ()) -> placing.Applied:
    """Apply directories as layers, by this process itself: they contain what no container could make."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (data, *layers)]
    try:
        entries = merged.merge(fds[1:])
        view = comparing.View(fds[0], fds[1:], entries, before.decode([]), 1 << 63, frozenset(mounts))
        return placing.apply(view, b"test")
    finally:
        for fd in fds:
            os.close(fd)


def test_a_device_is_refused(target: Target, tmp_path: Path) -> None:
    """No device of a layer reaches the host, in a new directory either, and nothing else of it is written."""
    require_root()
    layer = tmp_path / "layer"
    (layer / "new").mkdir(parents=True)
    (layer / "good").write_text("x")
    os.mknod(layer / "new" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    found = apply_by_hand(target.data, layer)
    assert found.conflicts == [(b"new/null", "a device")]
    assert sorted(os.listdir(target.data)) == ["sub"]


def test_the_name_of_a_staging_directory_is_reserved(target: Target) -> None:
    """A container cannot prepare the staging directory of a later `apply` in its layer."""
    target.cell("mkdir /data/.nbcontainer-apply-0; echo x > /data/sub/f")
    for force in (False, True):
        with pytest.raises(ChangesRefused, match="reserved"):
            target.apply(force=force)
    assert (target.data / "sub" / "f").read_text() == "of the host\n"


@pytest.mark.slow
def test_a_planted_staging_directory_leads_nowhere(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another container makes the staging directory first, as a link or with links in it: nothing outside changes."""
    monkeypatch.setattr(interrupted, "token", lambda *_: "known")
    place = target.data / ".nbcontainer-apply-known"
    target.cell("echo mine > /data/sub/f; echo new > /data/new")
    place.symlink_to(target.secret)
    with pytest.raises(ChangesRefused):
        target.apply()
    place.unlink()
    place.mkdir()
    (place / "0").symlink_to(target.secret / "f")
    (place / "deep").mkdir()
    (place / "deep" / "link").symlink_to(target.secret)
    target.apply()
    assert (target.data / "sub" / "f").read_text() == "mine\n"
    assert target.secret_is_safe()
    assert not place.exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["../secret/f", "/etc/hostname", "sub/../../secret/f", "link/f", ""])
def test_a_forged_log_moves_nothing_outside(target: Target, path: str) -> None:
    """The log of an interrupted `apply` is on the host's side, where another container could write."""
    place = target.data / ".nbcontainer-apply-test"
    place.mkdir()
    (place / "0").write_text("planted\n")
    (target.data / "link").symlink_to(target.secret)
    after = (target.secret / "f").stat().st_ino
    log = {"moves": [[path, (place / "0").stat().st_ino, after, 8, 0]], "rights": [[path, 0o7777, 0, 0, 0]]}
    (place / os.fsdecode(LOG)).write_text(json.dumps(log))
    fd = os.open(target.data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        view = comparing.View(fd, (), {}, {}, 0)
        assert recovering.recover(view, StagingArea(view, b"", b".nbcontainer-apply-test")).count == 0
    except OSError:
        pass  # the path was refused by the kernel
    finally:
        os.close(fd)
    assert target.secret_is_safe()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"moves": 3, "rights": []}', '{"moves": [[1]]}', "[" * 9999, "\0"])
def test_a_broken_log_holds_nothing_up(target: Target, text: str) -> None:
    """A log that cannot be read moves nothing, and the directory is removed."""
    place = target.data / ".nbcontainer-apply-test"
    place.mkdir()
    (place / os.fsdecode(LOG)).write_text(text)
    fd = os.open(target.data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        view = comparing.View(fd, (), {}, {}, 0)
        assert recovering.recover(view, StagingArea(view, b"", b".nbcontainer-apply-test")).count == 0
    finally:
        os.close(fd)
    assert sorted(os.listdir(target.data)) == ["sub"]


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step (renameat2(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_a_race_for_a_directory_on_the_way_is_not_won(target: Target) -> None:
    """Another container swaps a directory and a link all the time: `apply` writes inside, or is refused."""
    end = threading.Event()
    (target.data / "other").symlink_to(target.secret)

    def swap() -> None:
        while not end.is_set():
            exchange(target.data / "sub", target.data / "other")

    target.cell("for n in $(seq 20); do echo mine > /data/sub/new$n; done; echo mine > /data/sub/f")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(int(os.environ.get("NBCONTAINER_RACES", "10"))):
            try:
                target.apply(force=True)
            except ChangesRefused:
                continue
            target.engine.background.wait()
            containers.get(target.engine, target.name).undo()
    finally:
        end.set()
        thread.join()
    assert target.secret_is_safe()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("just now\n"),
        lambda path: (path.unlink(), path.write_text("just now\n")),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: path.unlink(),
    ],
)
def test_a_change_between_the_comparison_and_the_rename_is_kept(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    """A file that the host changes at the last moment is moved back, and so is everything that was written before."""
    layer = tmp_path / "layer"
    (layer / "sub").mkdir(parents=True)
    (layer / "sub" / "f").write_text("mine\n")
    (layer / "a").write_text("mine\n")
    (target.data / "a").write_text("of the host\n")
    compare = comparing.compare

    def late(*words: object, **more: object) -> comparing.Comparison:
        found = compare(*words, **more)  # type: ignore[arg-type]
        change(target.data / "sub" / "f")
        return found

    monkeypatch.setattr(placing, "compare", late)
    found = apply_by_hand(target.data, layer)
    assert found.conflicts == [(b"sub/f", "changed on the host meanwhile")]
    assert (target.data / "a").read_text() == "of the host\n"
    path = target.data / "sub" / "f"
    assert not path.is_symlink() or os.readlink(path) == "/etc/passwd"
    assert not path.exists() or path.is_symlink() or path.read_text() == "just now\n"
    assert not [*target.data.glob(".nbcontainer-*")]


def test_links_that_apply_wrote_are_refused_later(target: Target) -> None:
    """The directory counts as one that containers can write to: a later `-v` through such a link is refused."""
    target.cell(f"ln -s {target.secret} /data/way")
    target.apply()
    volume = cast("Volume", parse_volume(f"{target.data}/way:/x"))
    with pytest.raises(LinkRefused):
        run_script(target.engine, "true", volumes=(volume,))


def test_a_container_does_not_reach_the_directory_below(target: Target) -> None:
    """With every capability, a cell has no other mount of the host's directory, and cannot write to it."""
    volume = cast("Volume", parse_volume(f"{target.data}:/data:cow"))
    script = (
        "grep -c data /proc/mounts; mount -o remount,rw /data; mkdir -p /m; mount -t overlay -o lowerdir=/data:/m x /m;"
        " mount --bind /data /m; umount /data; ls /data; echo x > /data/sub/f; echo x > /m/sub/f; true"
    )
    run_script(target.engine, script, name=target.name, volumes=(volume,), capabilities=ALL)
    assert (target.data / "sub" / "f").read_text() == "of the host\n"
