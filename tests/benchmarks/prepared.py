"""What benchmarks of cells begin with: an engine on a store of its own that has busybox, and a notebook on it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from nbcontainer.api import run
from nbcontainer.containers.engine import Engine, set_default_engine

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def prepared_engine() -> Iterator[tuple[Path, Engine]]:
    """Yield a directory (host), and the default engine, whose store is in it. Both are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="nbcontainer-bench-") as folder:
        place = Path(folder)
        with contextlib.closing(Engine(place / "store")) as engine:
            set_default_engine(engine)
            run("busybox", ["true"])
            yield place, engine


@contextlib.contextmanager
def notebook() -> Iterator[tuple[Path, Engine, Any]]:
    """Yield the directory and the engine of `prepared_engine`, and an IPython shell with the extension."""
    with prepared_engine() as (place, engine):
        shell: Any = InteractiveShell.instance()
        shell.run_line_magic("load_ext", "nbcontainer")
        yield place, engine, shell
