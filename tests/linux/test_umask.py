"""The notebook's umask, and the mode of the root directory: what containers and their users may enter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers.engine import Engine
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def masked(tmp_path: Path, _containers_work: str) -> Iterator[Engine]:
    """An engine on a store that was made under the umask 077."""
    before = os.umask(0o077)
    opened = Engine(tmp_path / "store")
    try:
        yield opened
    finally:
        os.umask(before)
        opened.close()


def test_a_umask_closes_nothing_in_containers(masked: Engine) -> None:
    """Cells run, keep layers, and fill volumes; another user of the container enters its root and its directories."""
    user = "0" if masked.idmap.kind == MapKind.SINGLE else "1000:1000"
    assert run_script(masked, "ls / > /dev/null; cat /etc/hosts > /dev/null; stat -c %a /", user=user).text == "755"
    assert run_script(masked, "echo kept > /kept", name="box", named=(parse_volume("/data"),)).outcome.ok
    assert run_script(masked, "cat /kept; stat -c %a /", name="box", user=user).lines == ["kept", "755"]


@pytest.mark.usefixtures("_containers_work")
def test_a_store_that_a_umask_closed_is_opened(tmp_path: Path) -> None:
    """A store whose directories were made under another umask works when it is opened again."""
    Engine(tmp_path / "store").close()
    for folder in ("layers", "tmp", "stage", "below"):
        (tmp_path / "store" / folder).chmod(0o700)
    opened = Engine(tmp_path / "store")
    assert run_script(opened, "echo ran").text == "ran"
    opened.close()


def test_a_mode_of_the_root_is_a_change(engine: Engine, name: str) -> None:
    """A cell that changes nothing but the mode of the root directory is kept, and the next cell can open it again."""
    for mode in ("700", "755", "0"):
        run_script(engine, f"chmod {mode} /", name=name)
        assert run_script(engine, "stat -c %a /", name=name).text == mode
