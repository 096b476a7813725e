"""The interpreter of the tests in a container of busybox: a few directories of the host, read-only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nbcontainer.commands.options.volumes import parse_volume

if TYPE_CHECKING:
    from nbcontainer.sandbox.spec import Volume

_PLACE = "/python"

IN_CELLS = f"{_PLACE}/{os.path.relpath(os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix))} -I -S"
"""The interpreter in a cell that has the volumes of `python_volumes`, without packages."""

HERE = f"{sys.executable} -I -S"
"""The same one on the host."""


def python_volumes() -> tuple[Volume, ...]:
    """Return the volumes: the interpreter's own directory, and the libraries and the loader that it needs."""
    places = {_PLACE: sys.base_prefix} | {path: path for path in ("/lib", "/lib64") if Path(path).exists()}
    specs = [f"{os.path.realpath(source)}:{target}:ro" for target, source in places.items()]
    return tuple(cast("Volume", parse_volume(spec)) for spec in specs)
