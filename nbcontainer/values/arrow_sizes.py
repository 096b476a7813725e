"""The memory that an Arrow file of a container takes when it is read: a few bytes can stand for any number of rows.

`check_file` looks at what the file says before anything is decompressed ("Encapsulated message format" and "IPC File
Format" in the Arrow specification), and `check_table` at the table before pandas expands it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_END = b"ARROW1"
_PARTS = 1_000_000
"""Blocks and buffers of one file: each takes some 3 µs here."""

_EXPERIMENTAL = b"ARROW:experimental_compression"
_OBJECT, _NESTED = 8, 64
"""Bytes that pandas takes for a value: a number or a reference, and an array or a dictionary."""


LEAST, FACTOR = 1 << 30, 16


def most(file: BinaryIO) -> int:
    """Return the bytes of memory that a file may take: `LEAST`, or `FACTOR` times its size."""
    return max(LEAST, FACTOR * _size(file))


def _size(file: BinaryIO) -> int:
    """Return the size of a file, and rewind it."""
    size = file.seek(0, 2)
    file.seek(0)
    return size


def check(expected: int, limit: int) -> None:
    """Raise `ValueError` if so many bytes are more than the limit."""
    if expected > limit:
        raise ValueError(f"it would take {expected} bytes of memory (at most {limit})")


# Files


def check_file(file: BinaryIO, limit: int) -> None:
    """Raise `ValueError` if the buffers of an Arrow file have more than `limit` bytes; rewind the file."""
    try:
        total = 0
        for count, size in enumerate(_buffers(file, _size(file))):
            total += size
            check(total, limit)
            if count > _PARTS:
                raise ValueError(f"it has more than {_PARTS} buffers")
    except struct.error:
        raise ValueError("it is damaged") from None
    finally:
        file.seek(0)


def _buffers(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the sizes of all bodies and of the compressed buffers in them."""
    end = _read(file, size - 10, 10)
    if not end.endswith(_END):
        raise ValueError("it is not an Arrow file")
    (length,) = struct.unpack_from("<i", end)
    footer = _Buffer(_read(file, size - 10 - length, length))
    for field in (2, 3):  # dictionaries, record batches
        start, count = footer.vector(footer.field(footer.root, field))
        for number in range(count):
            offset, head, body = footer.unpack("<qi4xq", start + 24 * number)
            if head < 0 or body < 0 or offset < 0 or offset + head + body > size:
                raise ValueError("a part of it is outside the file")
            yield body
            yield from _compressed(file, _read(file, offset, head), offset + head, size)


def _compressed(file: BinaryIO, message: bytes, body: int, size: int) -> Iterator[int]:
    """Yield the sizes that the compressed buffers of a message have when they are decompressed."""
    if _EXPERIMENTAL in message:
        raise ValueError("it is compressed as in Arrow 0.17")
    start = 8 if message[:4] == b"\xff\xff\xff\xff" else 4
    data = _Buffer(message[start:])
    kind, header = data.field(data.root, 1), data.field(data.root, 2)
    if not kind or not header:
        return
    batch = data.below(header)
    if data.unpack("<B", kind)[0] == 2:  # a dictionary, with its values as a batch
        batch = data.below(data.field(batch, 1))
    if not data.field(batch, 3):
        return
    first, count = data.vector(data.field(batch, 2))
    for number in range(count):
        offset, length = data.unpack("<qq", first + 16 * number)
        if length < 8:
            yield 0
            continue
        if not 0 <= body + offset <= size - 8:
            raise ValueError("a part of it is outside the file")
        (expanded,) = struct.unpack("<q", _read(file, body + offset, 8))
        if expanded < -1:
            raise ValueError("a buffer has a negative size")
        yield max(expanded, 0)


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    if offset < 0 or length < 0:
        raise ValueError("it is damaged")
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise ValueError("it is damaged")
    return data


class _Buffer:
    """A FlatBuffer: tables, whose fields are found by a table of offsets. Errors are `struct.error` or `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.root = self.below(0)

    def unpack(self, form: str, at: int) -> tuple[Any, ...]:
        """Return the values at a place."""
        if at < 0:
            raise ValueError("it is damaged")
        return struct.unpack_from(form, self._data, at)

    def below(self, at: int) -> int:
        """Return the place that the offset at a place leads to."""
        return at + int(self.unpack("<I", at)[0])

    def field(self, table: int, number: int) -> int:
        """Return the place of a field of a table, 0 if it is not there."""
        offsets = table - int(self.unpack("<i", table)[0])
        (size,) = self.unpack("<H", offsets)
        place = 4 + 2 * number
        (offset,) = self.unpack("<H", offsets + place) if place + 2 <= size else (0,)
        return table + int(offset) if offset else 0

    def vector(self, at: int) -> tuple[int, int]:
        """Return the place of the first element of a vector, and their number."""
        if not at:
            return 0, 0
        start = self.below(at)
        return start + 4, int(self.unpack("<I", start)[0])


# Tables


def check_table(table: Any, limit: int) -> None:
    """Raise `ValueError` if pandas would take more than `limit` bytes for a valid table of pyarrow."""
    total, seen = 0, set[int]()
    for column in table.columns:
        for chunk in column.chunks:
            total += _expanded(chunk, seen)
            check(total, limit)


def _expanded(array: Any, seen: set[int]) -> int:
    """Return the bytes that pandas takes for an array at most. `seen` are dictionaries that are counted."""
    import pyarrow as pa

    kind, count = array.type, len(array)
    types = pa.types
    if types.is_dictionary(kind):
        place = next((buffer.address for buffer in array.dictionary.buffers() if buffer is not None), 0)
        more = 0 if place in seen else _expanded(array.dictionary, seen)
        seen.add(place)
        return _OBJECT * count + more
    if getattr(types, "is_run_end_encoded", _never)(kind):
        return count * (_OBJECT + _longest(array.values))
    if any(getattr(types, name, _never)(kind) for name in ("is_string_view", "is_binary_view")):
        return _OBJECT * count + _length_of_views(array)
    if types.is_boolean(kind) and not array.null_count:
        return count
    if types.is_struct(kind):
        return _NESTED * count + sum(_expanded(part, seen) for part in array.flatten())
    if types.is_map(kind):
        return _NESTED * count + _expanded(array.keys, seen) + _expanded(array.items, seen)
    if hasattr(array, "flatten"):  # lists
        return _NESTED * count + _expanded(array.values, seen)
    if types.is_union(kind):
        return _NESTED * count + sum(_expanded(array.field(part), seen) for part in range(kind.num_fields))
    if isinstance(array, pa.ExtensionArray):
        return _expanded(array.storage, seen)
    return _OBJECT * count + int(array.nbytes)


def _never(_: Any) -> bool:
    return False


def _longest(array: Any) -> int:
    """Return the bytes of the longest value. Raises `ValueError` for values of types that are not simple."""
    import pyarrow as pa
    import pyarrow.compute as compute

    types = pa.types
    if types.is_primitive(array.type) or types.is_decimal(array.type) or types.is_null(array.type):
        return 2 * _OBJECT
    try:
        return int(compute.max(compute.binary_length(array)).as_py() or 0)
    except pa.ArrowNotImplementedError:
        raise ValueError(f"it has runs of the type {array.type}") from None


def _length_of_views(array: Any) -> int:
    """Return the bytes of all texts of an array of views: views of the same text have it together."""
    views = memoryview(array.buffers()[1]).cast("B").cast("i")
    lengths = views[4 * array.offset : 4 * (array.offset + len(array)) : 4]
    return sum(length for length in lengths if length > 0)
