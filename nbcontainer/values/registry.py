"""The codecs by value and by suffix: the built-in ones, and those that other packages register.

An entry point of the group `nbcontainer.codecs` names a codec, an instance (`nbcontainer.values.codec.Codec`).
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.values.arrays import NpyCodec
from nbcontainer.values.codec import Codec
from nbcontainer.values.pictures import PngCodec
from nbcontainer.values.plain import BytesCodec, JsonCodec, TextCodec
from nbcontainer.values.tables import ArrowCodec, CsvCodec, ParquetCodec

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUP = "nbcontainer.codecs"


@functools.cache
def codecs() -> tuple[Codec, ...]:
    """Return all codecs: those of other packages, then the built-in ones. Raises `UsageError` for a broken one."""
    return (
        *_registered(importlib.metadata.entry_points(group=GROUP)),
        TextCodec(),
        BytesCodec(),
        NpyCodec(),
        ArrowCodec(),
        PngCodec(),
        JsonCodec(),
        ParquetCodec(),
        CsvCodec(),
    )


def _registered(found: Iterable[importlib.metadata.EntryPoint]) -> Iterable[Codec]:
    for point in found:
        try:
            codec = point.load()
        except Exception as error:
            problem = f"cannot load the codec '{point.name}' ({point.value}): {type(error).__name__}: {error}"
            raise UsageError(problem, hint="repair or remove the package that registers it") from error
        if not isinstance(codec, Codec):
            problem = f"the codec '{point.name}' ({point.value}) lacks suffix, accepts, write or read"
            raise UsageError(problem, hint="repair or remove the package that registers it")
        yield codec


def codec_for(name: str, value: object) -> Codec:
    """Return the codec that writes a value. Raises `UsageError` if no codec accepts it."""
    for codec in codecs():
        if codec.accepts(value):
            return codec
    kind = type(value).__name__
    hint = "pass text, bytes, what JSON can hold, an array, a table or a figure"
    raise UsageError(f"cannot pass {name}: no codec for a value of type '{kind}'", hint=hint)


def codec_of(suffix: str) -> Codec | None:
    """Return the codec that reads files with this suffix, None if there is none."""
    return next((codec for codec in codecs() if codec.suffix == suffix), None)
