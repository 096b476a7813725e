"""Volumes of the store: what a container leaves in one leads the notebook's side nowhere."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import named_volumes as volumes
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import LinkRefused, NbcontainerError, VolumeError
from nbcontainer.sandbox.spec import NamedVolume, Volume
from tests.running import DEADLINE, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.scene import Scene

NAME = "attacked"
WHOLE = (NamedVolume(NAME, "/v"),)


@pytest.fixture(autouse=True)
def _removed(scene: Scene) -> Iterator[None]:
    """Removes the volume."""
    yield
    with contextlib.closing(Engine(scene.engine.store.path)) as other:
        volumes.remove(other, NAME)


def test_no_link_in_a_volume_of_the_store_leads_out(scene: Scene) -> None:
    """Neither as a part of the volume, nor as the source of another one by its path; and none is followed as the volume
    is measured or removed."""
    secret = str(scene.secret)
    script = f"ln -s {secret} /v/out; mkdir /v/d; ln -s {secret} /v/d/deep; ln -s .. /v/up"
    run_script(scene.engine, script, named=WHOLE)
    for subpath in ("out", "out/key", "d/deep", "up", "up/lock"):
        with pytest.raises(VolumeError, match="leads through a symbolic link"):
            run_script(scene.engine, "true", named=(NamedVolume(NAME, "/v", subpath=subpath),))
    data = volumes.get(scene.engine, NAME).path / "data"
    for source in ("out", "d/deep", "out/key"):
        found = parse_volume(f"{data}/{source}:/x")
        assert isinstance(found, Volume)
        with pytest.raises(LinkRefused):
            run_script(scene.engine, "true", volumes=(found,))
    volumes.remove(scene.engine, NAME)
    scene.engine.close()
    assert scene.untouched
    assert not data.exists()
    with contextlib.closing(Engine(scene.engine.store.path)) as other:
        volumes.create(other, NAME)


def test_a_race_in_a_volume_of_the_store_is_not_won(scene: Scene) -> None:
    """While one container exchanges a directory of the volume for a link, another one gets that directory or an error,
    and never what the link leads to."""
    swap = "mv -T /v/a /v/c && mv -T /v/b /v/a && mv -T /v/c /v/b"
    script = f"mkdir /v/a; ln -s {scene.secret} /v/b; echo ready; while [ ! -e /v/stop ] && {swap}; do :; done"
    begun = threading.Event()
    options = {"named": WHOLE, "stdout": lambda _: begun.set()}
    exchanging = threading.Thread(target=run_script, args=(scene.engine, script), kwargs=options)
    exchanging.start()
    assert begun.wait(DEADLINE)
    with contextlib.closing(Engine(scene.engine.store.path)) as other:
        began = time.monotonic()
        for tried in itertools.count():
            with contextlib.suppress(NbcontainerError):
                assert run_script(other, "cat /p/key", named=(NamedVolume(NAME, "/p", subpath="a"),)).text == ""
            if tried >= 4 and time.monotonic() - began > 3:
                break
        assert exchanging.is_alive()
        run_script(other, "touch /p/stop", named=(NamedVolume(NAME, "/p"),))
    exchanging.join(DEADLINE)
    assert scene.untouched


def test_a_volume_shows_nothing_beside_its_files(scene: Scene) -> None:
    """The lock and the record lie above what a container sees: `..` leads elsewhere, and the directory cannot be
    replaced."""
    script = "ls -A /v/..; rmdir /v; mv /v /w; cd /v; test -e ../lock || test -e ../volume.json || echo none"
    ran = run_script(scene.engine, script, named=WHOLE)
    assert "none" in ran.lines
    assert not {"lock", "volume.json", "data"} & set(ran.lines)
    path = volumes.get(scene.engine, NAME).path
    assert sorted(os.listdir(path)) == ["data", "lock", "volume.json"]
