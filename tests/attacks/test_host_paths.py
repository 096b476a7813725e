"""Volumes whose source lies where a cell could write: what it leaves there does not lead a later `-v` elsewhere."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ContainerError, LinkRefused, SetupFailed
from tests.attacks.attacker import attack_script
from tests.attacks.test_volumes import swap
from tests.attacks.ways import ALL, WAYS, Way

if TYPE_CHECKING:
    from tests.attacks.attacker import Attacker
    from tests.attacks.scene import Scene

ROUNDS = int(os.environ.get("NBCONTAINER_RACE_ROUNDS", "250"))
"""Volumes that are made while a container exchanges what they are made of."""

MOST = 40 * ROUNDS
"""Volumes until each end of the race was seen: which one is rare depends on the machine."""


@pytest.mark.parametrize("way", WAYS)
def test_no_link_of_a_cells_leads_a_volume_elsewhere(way: Way, scene: Scene) -> None:
    """A cell's link as the next one's `-v` source is refused, with the link and what to do, and nothing is shown."""
    scene.leave('ln -s "$S" out', **way.options())
    with pytest.raises(
        LinkRefused, match=r"data/out is a symbolic link in a directory .*; .* target instead"
    ) as raised:
        scene.cell("echo changed > /x/key", f"{scene.data}/out:/x", **way.options())
    assert "\n" not in str(raised.value)
    assert scene.untouched
    assert scene.cell("cat /x/key", f"{scene.secret}:/x") == "NAME=secret"  # by its own name it is anybody's to mount


SOURCES: dict[str, tuple[str, str]] = {
    "on the way": ('mkdir a; ln -s "${S%/*}" a/up', "data/a/up/secret"),
    "a file": ('ln -s "$S/key" file', "data/file"),
    "relative": ("ln -s ../secret out", "data/out"),
    "a link to a link": ('ln -s "$S" one; ln -s one two', "data/two"),
    "in a directory below": ('mkdir -p a/b; ln -s "$S" a/b/out', "data/a/b/out"),
    "the directory, exchanged": ('mkdir sub; mv sub gone; ln -s "$S" sub', "data/sub"),
    "by dots": ('mkdir a; ln -s "$S" out', "data/a/../out"),
    "and back by dots": ('ln -s "$S" out', "data/out/../secret"),
    "through a link of the user's": ('ln -s "$S" out', "mine/out"),
    "where a link of the user's ends": ('ln -s "$S" out', "./into"),
    "by a mount of its own name": ('ln -s "$S" out', "renamed/out"),
}


@pytest.mark.parametrize("where", SOURCES)
def test_no_link_on_the_way_to_a_source_is_followed(where: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever on the way the cell's link is, and from wherever the path begins, the volume is refused."""
    script, source = SOURCES[where]
    scene.users_link("mine", "data")
    scene.users_link("into", "data/out")
    scene.leave(script)
    if source.startswith("renamed"):
        scene.data.rename(scene.folder / "renamed")
    for start, path in ((scene.folder, source), (Path("/"), str(scene.folder / source))):
        monkeypatch.chdir(start)
        for mode in ("", ":ro"):
            with pytest.raises(LinkRefused):
                scene.cell("echo changed > /x/key", f"{path}:/x{mode}")
    if source.startswith("data/"):
        monkeypatch.chdir(scene.data)
        with pytest.raises(LinkRefused):
            scene.cell("true", f"./{source.removeprefix('data/')}:/x")
    assert scene.untouched


def test_links_that_no_cell_could_make_are_followed(scene: Scene) -> None:
    """A user's own link to the volume, to what is in it and beside it is followed, as is one in a `:ro` volume."""
    (scene.data / "sub").mkdir()
    (scene.data / "sub" / "file").write_text("mine")
    readable = scene.folder / "readable"
    readable.mkdir()
    (readable / "link").symlink_to(scene.secret)
    scene.users_link("whole", "data")
    scene.users_link("part", "data/sub")
    scene.leave("true")
    scene.cell("true", f"{readable}:/r:ro")
    volumes = [f"{scene.folder}/{name}:/{name.replace('/', '-')}" for name in ("whole", "part", "whole/sub/file")]
    listed = scene.cell("cat /whole/sub/file /part/file /whole-sub-file; cat /r/key", *volumes, f"{readable}/link:/r")
    assert listed == "mine" * 3 + "NAME=secret"


def test_a_read_only_volume_is_writable_to_who_may_mount(scene: Scene) -> None:
    """With SYS_ADMIN a cell can write to its `:ro` volumes (SECURITY.md): no link in them is followed, either."""
    scene.cell("true", f"{scene.data}:/d:ro", capabilities=ALL)
    (scene.data / "out").symlink_to(scene.secret)
    with pytest.raises(LinkRefused):
        scene.cell("true", f"{scene.data}/out:/x")


def test_a_volume_of_the_past_is_remembered(scene: Scene, store_path: Path) -> None:
    """A link of a cell's that ended, in a notebook that is closed, is not followed by the next notebook."""
    with contextlib.closing(Engine(store_path)) as before:
        scene.on(before).leave('ln -s "$S" out')
    with pytest.raises(LinkRefused):
        scene.cell("true", f"{scene.data}/out:/x")


@pytest.mark.timeout(900)
def test_a_race_for_a_volumes_source_is_not_won(attack: Attacker, scene: Scene) -> None:
    """While another container exchanges a directory and links, hundreds of volumes of it show it, or are refused."""
    links = [str(scene.secret), "../secret", "/", "target/../../secret", ".."]
    swapped: list[int] = []
    script = attack_script(swap, ("/shared", links))
    volumes = (parse_volume(f"{scene.data}:/shared"),)
    swapper = threading.Thread(target=lambda: swapped.append(attack.run(script, volumes=volumes, remove=True).answer))
    swapper.start()
    shown = refused = 0
    try:
        while not (scene.data / "ready").exists():
            assert swapper.is_alive()
        while shown + refused < ROUNDS or not (shown and refused):
            assert shown + refused < MOST
            try:
                found = scene.cell("ls -a /x", f"{scene.data}/target:/x")
            except (LinkRefused, ContainerError, SetupFailed):
                refused += 1
                continue
            assert found.split() == [".", "..", "deep"]
            shown += 1
    finally:
        (scene.data / "stop").touch()
        swapper.join()
    assert swapped[0] > ROUNDS
    assert scene.untouched
