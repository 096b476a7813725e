"""Directories that containers enter, with a mode that does not depend on the notebook's umask."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OPEN = 0o755


def make_open(path: str | Path, more: int = 0) -> None:
    """Make a directory of the mode 0755, with the bits `more`: a umask takes none (mkdir(2)). Raises `OSError`.

    Nothing is left if that fails.
    """
    os.mkdir(path, OPEN)  # noqa: PTH102 - each cell makes three, as strings
    try:
        os.chmod(path, OPEN | more)  # noqa: PTH101
    except OSError:
        os.rmdir(path)  # noqa: PTH106
        raise


def keep_open(path: Path) -> None:
    """Make a directory and its parents, or open one that was made under another umask. Raises `OSError`."""
    path.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) & OPEN != OPEN:
        path.chmod(OPEN)
