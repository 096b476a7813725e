"""What the launcher's interpreter is told of the notebook's: where to import from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def import_path() -> list[str]:
    """The directories where this package and the compression library lie: all that the launcher imports from."""
    names = ["nbcontainer"] + (["backports.zstd"] if sys.version_info < (3, 14) else [])
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            path = str(Path(spec.origin).resolve().parents[name.count(".") + 1])
            if path not in found:
                found.append(path)
    return found
