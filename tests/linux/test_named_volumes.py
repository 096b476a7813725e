"""Volumes of the store, named and of a container's own, on the real kernel."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers import named_volumes as volumes
from nbcontainer.containers.commit import commit
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError, SetupFailed, UsageError, VolumeBusy, VolumeError, VolumeNotFound
from nbcontainer.sandbox.spec import NamedVolume, Tmpfs
from nbcontainer.sandbox.userns import idmap
from tests.requirements import require_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.running import Ran

    Cell = Callable[..., Ran]


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A volume's name, of the test's own."""
    made = f"test-{secrets.token_hex(4)}"
    yield made
    if (engine.store.path / "volumes" / made).exists():
        volumes.remove(engine, made)


def verb(engine: Engine, *words: str) -> str:
    """What a verb of `%container` answers with."""
    found = VERBS[words[0]]
    return str(found.run(Invocation(engine, parse(found.command, words[1:]))))


def test_a_named_volume_keeps_what_cells_write(cell: Cell, engine: Engine, name: str) -> None:
    """It is made by its first use; what a cell writes there is in no layer, and the next cell on any image finds it."""
    ran = cell("echo kept > /tmp/f; mkdir -p /tmp/a/b", named=(NamedVolume(name, "/tmp"),))
    assert [cell.layer for cell in ran.container.cells] == [""]
    assert cell("cat /other/f; ls /other", named=(NamedVolume(name, "/other"),)).lines == ["kept", "a", "f"]
    assert volumes.get(engine, name).name == name
    assert list((engine.store.path / "volumes" / name).iterdir()) != []


def test_the_images_files_are_copied_at_the_first_use(cell: Cell, engine: Engine, name: str) -> None:
    """With owners and permissions, of the directory too; what it has later stays, and `nocopy` copies nothing."""
    owner = "0:0" if engine.idmap.kind == idmap.MapKind.SINGLE else "1000:100"
    script = (
        f"mkdir -p /srv/d/in; cd /srv/d; echo a > in/f; ln -s in l; chown -R {owner} .; chmod 750 .; chmod 4711 in/f"
    )
    made = cell(script)
    image = commit(made.container, f"{name}-image").name
    look = "stat -c '%a %u %g' . in/f; cat l/f"
    expected = cell(f"cd /srv/d; {look}", image=image).lines
    for target in ("/srv/d", "/srv/d"):
        ran = cell(f"cd {target}; {look}; echo more >> in/g; cat in/g", image=image, named=(NamedVolume(name, target),))
        assert ran.lines[: len(expected)] == expected, ran.stderr
        expected.append("more")
    assert cell("ls /etc", named=(NamedVolume(name, "/etc"),)).lines == ["in", "l"]
    empty = (NamedVolume(f"{name}-2", "/srv/d", copy=False),)
    assert cell("ls -A /srv/d", image=image, named=empty).text == ""
    volumes.remove(engine, f"{name}-2")


def test_what_a_dead_process_copied_in_part_is_copied_anew(cell: Cell, engine: Engine, name: str) -> None:
    """A mark beside the files says that they are not all there."""
    path = volumes.create(engine, name).path
    cell("echo part > /etc/part", named=(NamedVolume(name, "/etc", copy=False),))
    (path / "filling").touch()
    found = cell("ls /etc", named=(NamedVolume(name, "/etc"),)).lines
    assert "part" not in found
    assert found == [word for word in cell("ls /etc").lines if word != "mtab"]  # that is in no layer


def test_a_volume_without_a_name_is_the_containers(cell: Cell, engine: Engine, name: str) -> None:
    """That of an anonymous container ends with its cell; that of a named one is there for its cells, until it is
    removed."""
    before = set((engine.store.path / "tmp").iterdir())
    own = (NamedVolume("", "/etc"),)
    assert "passwd" in cell("touch /etc/x; ls /etc", named=own).lines
    assert cell("cd /etc; ls x", named=own).outcome.exit_code == 1
    cell("echo a > /etc/x", name=name, named=own)
    assert cell("cat /etc/x", image="", name=name, named=own).text == "a"
    assert cell("cat /etc/x", image="", name=name).outcome.exit_code == 1
    path = engine.store.path / "containers" / name / "volumes"
    assert len(list(path.iterdir())) == 1
    verb(engine, "rm", name)
    assert not path.exists()
    engine.close()
    assert {one for one in (engine.store.path / "tmp").iterdir() if one.name.startswith(engine.store.session)} <= before


def test_an_images_volumes_are_writable_with_a_read_only_root(cell: Cell, engine: Engine, name: str) -> None:
    """They are the container's own, with the image's files; others of its paths, and hostile ones, make none."""
    made = cell("mkdir /srv/d; echo a > /srv/d/f")
    changes = ['VOLUME ["/srv/d", "/srv/e", "/proc/x", "/"]']
    image = commit(made.container, f"{name}-image", changes=changes).name
    ran = cell("cat /srv/d/f && echo b > /srv/d/g && echo c > /srv/e/h && ! touch /srv/x", image=image, read_only=True)
    assert (ran.text, ran.outcome.exit_code) == ("a", 0), ran.stderr
    ran = cell("cat /srv/d/f; touch /srv/d/g", image=image, read_only=True, tmpfs=(Tmpfs("/srv/d"),))
    assert ran.text == ""
    assert cell("touch /srv/d/g", image=image).container.cells[0].layer


def test_options_of_a_named_volume(cell: Cell, name: str) -> None:
    """Read-only, without programs, and a part of it."""
    cell("mkdir -p /v/a/b; cp $(which busybox) /v/a/busybox; echo x > /v/a/b/f", named=(NamedVolume(name, "/v"),))
    ran = cell("touch /v/new; cat /v/a/b/f", named=(NamedVolume(name, "/v", read_only=True),))
    assert (ran.text, b"Read-only" in ran.stderr) == ("x", True)
    assert cell("/v/a/busybox true", named=(NamedVolume(name, "/v", noexec=True),)).outcome.exit_code == 126
    assert cell("/v/busybox cat /v/b/f", named=(NamedVolume(name, "/v", subpath="a"),)).text == "x"
    assert cell("cat /f", named=(NamedVolume(name, "/f", subpath="a/b/f"),)).text == "x"
    with pytest.raises(VolumeError, match="cannot use 'a/c' in the volume"):
        cell("true", named=(NamedVolume(name, "/v", subpath="a/c"),))


def test_a_volume_in_use_stays(cell: Cell, engine: Engine, name: str) -> None:
    """`rm` and `prune --all` report or skip it, in this process and in another one, until its cell has ended."""
    other = Engine(engine.store.path)
    seen: list[str] = []

    def look(_: bytes) -> None:
        for one in (engine, other):
            with pytest.raises(VolumeBusy, match=f"the volume '{name}' is in use by a cell; wait"):
                volumes.remove(one, name)
        seen.append(verb(other, "volume", "ls"))
        assert name not in volumes.prune(other)

    cell("echo begun; read line", named=(NamedVolume(name, "/v"),), stdout=look)
    assert [line.split()[1:4] for line in seen[0].splitlines() if line.startswith(name)] == [["✓", "in", "use"]]
    verb(other, "volume", "rm", name)
    other.close()
    with pytest.raises(VolumeNotFound, match="no such volume"):
        volumes.get(engine, name)


def test_cells_and_removals_at_once(cell: Cell, engine: Engine, name: str) -> None:
    """Every cell finds the volume whole, made by itself or by another one; a removal removes it or says that it is in
    use."""
    whole = [word for word in cell("ls /etc").lines if word != "mtab"]  # that is in no layer
    found: list[list[str]] = []
    wrong: list[NbcontainerError] = []
    ended = threading.Event()

    def remove() -> None:
        other = Engine(engine.store.path)
        while not ended.wait(0.01):
            try:
                volumes.remove(other, name)
            except (VolumeBusy, VolumeNotFound):
                continue
            except NbcontainerError as error:
                wrong.append(error)
        other.close()

    def use() -> None:
        try:
            found.extend(cell("ls /etc", named=(NamedVolume(name, "/etc"),)).lines for _ in range(8))
        except NbcontainerError as error:
            wrong.append(error)

    remover, users = threading.Thread(target=remove), [threading.Thread(target=use) for _ in range(3)]
    for thread in (remover, *users):
        thread.start()
    for thread in users:
        thread.join()
    ended.set()
    remover.join()
    assert wrong == []
    assert found == [whole] * 24


def test_files_of_another_user_are_kept_and_removed(cell: Cell, engine: Engine, name: str) -> None:
    """A directory that a cell closes to all but another user is neither filled again nor in the way of `rm`."""
    if engine.idmap.kind == idmap.MapKind.SINGLE:
        pytest.skip("needs a range of ids")
    mount = (NamedVolume(name, "/srv"),)
    cell("chown 1000:1000 /srv; chmod 700 /srv; mkdir /srv/d; echo a > /srv/d/f; chown -R 1000 /srv/d", named=mount)
    assert cell("cat /srv/d/f; id -u", named=mount, user="1000").lines == ["a", "1000"]
    volumes.remove(engine, name)
    engine.close()
    assert not (engine.store.path / "volumes" / name).exists()
    assert [path for path in (engine.store.path / "tmp").iterdir() if path.name.startswith(engine.store.session)] == []


def test_the_verbs(engine: Engine, name: str) -> None:
    """`volume create`, `ls`, `inspect`, `rm` and `prune`, and what they say of bad input."""
    assert verb(engine, "volume", "create", name, "--label", "a=b", "--label", "c") == name
    assert verb(engine, "volume", "create", name) == name
    assert name in verb(engine, "volume", "ls", "-q").splitlines()
    assert [line.split()[2:] for line in verb(engine, "volume", "ls").splitlines() if line.startswith(name)] == [
        ["a=b,", "c"]
    ]
    assert f'"Mountpoint": "{engine.store.path}/volumes/{name}/data"' in verb(engine, "volume", "inspect", name)
    made = verb(engine, "volume", "create")
    assert len(made) == 32
    assert "named volumes stay" in verb(engine, "volume", "prune", "-f")
    assert verb(engine, "volume", "rm", made, name) == f"removed {made}, {name}"
    assert verb(engine, "volume", "rm", "-f", made) == "nothing to remove"
    for words in (["rm", made], ["inspect", made]):
        with pytest.raises(VolumeNotFound, match="list volumes with `%container volume ls`"):
            verb(engine, "volume", *words)
    for words in (["rm"], ["create", "a b"], ["create", "-d", "nfs"], ["create", "--label", "=x"], ["mount"]):
        with pytest.raises(UsageError) as raised:
            verb(engine, "volume", *words)
        assert raised.value.hint
    verb(engine, "volume", "create", name)
    assert name in verb(engine, "volume", "prune", "--all")


def test_a_damaged_record_is_listed_and_removed(engine: Engine, name: str, cell: Cell) -> None:
    """Its files are still there for cells; `inspect` says what to do."""
    path = volumes.create(engine, name).path
    (path / "volume.json").write_text("{")
    assert name in verb(engine, "volume", "ls")
    with pytest.raises(VolumeError, match=f"cannot read the record of volume '{name}': .*; remove it with"):
        verb(engine, "volume", "inspect", name)
    cell("touch /v/x", named=(NamedVolume(name, "/v"),))
    assert verb(engine, "volume", "rm", name) == f"removed {name}"


def test_without_a_user_namespace_there_is_no_volume_of_the_store(cell: Cell) -> None:
    """Its files have the containers' ids."""
    require_root()
    with pytest.raises(UsageError, match="named volumes require a user namespace; remove --userns=host"):
        cell("true", userns="host", named=(NamedVolume("a", "/v"),))


@pytest.mark.parametrize(
    ("tmpfs", "expected"),
    [
        ({}, "1777 0 0"),
        ({"mode": 0o755}, "755 0 0"),
        ({"mode": 0o700, "uid": 1000, "gid": 50}, "700 1000 50"),
    ],
)
def test_the_top_of_a_tmpfs(cell: Cell, engine: Engine, tmpfs: dict[str, Any], expected: str) -> None:
    """It has the permissions and the owner of the options; an owner that is not mapped is reported."""
    if "uid" in tmpfs and engine.idmap.kind == idmap.MapKind.SINGLE:
        with pytest.raises(SetupFailed, match="its uid or gid is not mapped"):
            cell("true", tmpfs=(Tmpfs("/t", **tmpfs),))
        return
    assert cell("stat -c '%a %u %g' /t", tmpfs=(Tmpfs("/t", **tmpfs),)).text == expected


def test_limits_and_flags_of_a_tmpfs(cell: Cell) -> None:
    """Its size, its number of files, and mount(8)'s flags."""
    ran = cell(
        "df -k /a | tail -n 1 | tr -s ' ' | cut -d' ' -f2; touch /a/1 /a/2 /a/3 /a/4; touch /b/x; ls /a;"
        "grep ' /a ' /proc/mounts",
        tmpfs=(Tmpfs("/a", 1 << 20, inodes=3, flags=("noexec", "noatime")), Tmpfs("/b", flags=("ro",))),
    )
    assert ran.lines[:3] == ["1024", "1", "2"]
    assert {"noexec", "noatime", "nosuid", "nodev"} <= set(ran.lines[3].split()[3].split(","))
    assert b"No space left" in ran.stderr
    assert b"/b/x: Read-only file system" in ran.stderr


def test_groups_are_added_to_the_users(cell: Cell, engine: Engine) -> None:
    """By name or number in the image; a group that it lacks is reported."""
    if engine.idmap.kind == idmap.MapKind.SINGLE:
        with pytest.raises(SetupFailed, match="cannot become the user"):
            cell("id -G", groups=("5",))
        return
    assert cell("id -G", groups=("5", "nogroup", "5")).lines == cell("id -G", groups=("5", "65534")).lines
    assert cell("id -G", user="1000:1000", groups=("44",)).text == "1000 44"
    with pytest.raises(SetupFailed, match="no group wheels in the image"):
        cell("true", groups=("wheels",))


def test_a_variable_that_is_not_set_is_removed(cell: Cell, engine: Engine, name: str) -> None:
    """`-e NAME` without a value in the notebook hides the image's variable, as with Docker."""
    image = commit(cell("true").container, f"{name}-image", changes=["ENV A=image B=2"]).name
    assert cell("echo ${A-none} $B", image=image).text == "image 2"
    assert cell("echo ${A-none} $B", image=image, env=("A",)).text == "none 2"


def test_a_volume_on_a_path_that_the_image_links_elsewhere(cell: Cell, engine: Engine, name: str) -> None:
    """The files come from where the link leads inside the image; a link to its root copies nothing."""
    image = commit(
        cell("mkdir /srv/d; echo a > /srv/d/f; ln -s /srv/d /srv/l; ln -s / /srv/root").container, f"{name}-image"
    ).name
    assert cell("cat /srv/l/f", image=image, named=(NamedVolume(name, "/srv/l"),)).text == "a"
    with pytest.raises(SetupFailed, match="cannot mount the volume"):
        cell("true", image=image, named=(NamedVolume(f"{name}-2", "/srv/root"),))
    assert list((volumes.get(engine, f"{name}-2").path / "data").iterdir()) == []
    volumes.remove(engine, f"{name}-2")
