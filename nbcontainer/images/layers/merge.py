"""Merging the upper directories of parts of a root into the layer that the root's own upper directory becomes."""

from __future__ import annotations

import contextlib
import os

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def merge(root: int, parts: list[tuple[str, str]], modes: dict[str, int]) -> None:
    """Move directory NAME of descriptor `root` to PATH in the tree `diff` beside it, for each (NAME, PATH).

    Missing directories on the way are made, with their `modes` by path, or 0755. No link is followed. Parts that lie
    in others come after them. Raises `OSError`.
    """
    for name, path in parts:
        *above, last = path.strip("/").split("/")
        folder = os.open("diff", _STEP, dir_fd=root)
        walked = ""
        try:
            for part in above:
                walked += f"/{part}"
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                    os.chmod(part, modes.get(walked, 0o755), dir_fd=folder)
                step = os.open(part, _STEP, dir_fd=folder)
                os.close(folder)
                folder = step
            os.rename(name, last, src_dir_fd=root, dst_dir_fd=folder)
        finally:
            os.close(folder)
