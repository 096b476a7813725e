"""How hypothesis makes examples, and fixtures: a store, a root with a witness beside it, a runner without a sandbox."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from nbcontainer.linux.libc import libc
from nbcontainer.store.layout import Store
from tests.unit.images.in_process import InProcess, Unpacker

if TYPE_CHECKING:
    from collections.abc import Iterator

# No database of examples, which a plain user could not write beside the tests; no time limit on a busy machine.
hypothesis.settings.register_profile("nbcontainer", database=None, deadline=None)
hypothesis.settings.load_profile("nbcontainer")


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Leave what is written in the page cache: no test here ends the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # fails for a descriptor that is not open, too
        patch.setattr(libc, "syncfs", lambda fd: 0 if os.fstat(fd) else -1)
        yield


@pytest.fixture
def unpacker(tmp_path: Path) -> Iterator[Unpacker]:
    """Unpacks archives below a directory of the test's own; at the end nothing beside it may have changed."""
    made = Unpacker(tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store that belongs to who runs the test."""
    opened = Store(tmp_path / "store", (os.geteuid(), os.getegid()))
    yield opened
    opened.close()


@pytest.fixture
def runner(store: Store) -> InProcess:
    """A runner that does its work here, in the test's own process."""
    return InProcess(store.path)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory with a short path, for long names below it."""
    path = Path(tempfile.mkdtemp(prefix="nbc-"))
    yield path
    shutil.rmtree(path)
