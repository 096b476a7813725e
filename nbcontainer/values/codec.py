"""The Protocol of codecs.

A codec writes a Python value to a file of `/in`, and reads a file of `/out`, which a container wrote: it must not
unpickle or execute anything, and must raise `ValueError` for a file that it cannot read. Other packages register
codecs through the entry point group `nbcontainer.codecs`: each entry point names a codec (an instance). They come
before the built-in ones.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol, runtime_checkable


@runtime_checkable
class Codec(Protocol):
    """One form of values in files. `suffix` is that of its files, without the dot, as in `json`."""

    suffix: str

    def accepts(self, value: object) -> bool:
        """Return whether `write` can write this value. It must not import a package for that."""

    def write(self, value: Any, file: BinaryIO) -> None:
        """Write the value. Raises `ValueError` or `TypeError` if it cannot be written."""

    def read(self, file: BinaryIO) -> Any:
        """Return the value of a file that a container wrote. Raises `ValueError` if it is not valid."""


class MissingPackage(ValueError):
    """A codec needs a Python package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"the package '{package}' is not installed")
        self.hint = f"`pip install {package}`, or `pip install 'nbcontainer[{extra}]'`"
