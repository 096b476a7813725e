"""The start of a notebook: the launcher, the first warm container, and the clean-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers.cleanup import sweep
from nbcontainer.containers.run import prewarm_image

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine


def start(engine: Engine, image: str = "busybox") -> None:
    """Start the launcher without waiting for it, and remove what dead processes left, in the background.

    If the store has `image`, a container on it is warm for the first cell.
    """
    engine.launcher.start()
    engine.later(lambda: prewarm_image(engine, image))
    engine.later(lambda: sweep(engine))
