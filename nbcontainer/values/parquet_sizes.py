"""The memory that a Parquet file of a container takes when it is read: a few bytes can stand for any number of rows.

The headers of the pages have the sizes that the reader uses (parquet.thrift of the format, in Thrift's compact
protocol). The sums in the footer need not be true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from nbcontainer.values.arrow_sizes import check

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGES = 200_000
_HEADER_LIMIT = 16 << 20  # bytes, as in Arrow
_PADDING = 100  # bytes that a column may have beyond its size, as in Arrow (PARQUET-816)
_BYTE_ARRAY, _DELTA_BYTE_ARRAY = 6, 7  # a type, and an encoding
_BOOLEANS = (1, 2)  # in Thrift, the type of a field is its value
_DEPTH = 16
_WIDTH = 8
"""Bytes of a number, and of a reference to another value."""

_BATCH = 1 << 16  # rows


def check_pages(file: BinaryIO, limit: int) -> bool:
    """Raise `ValueError` if pages and values of a file have more than `limit` bytes; rewind it.

    Return whether the texts may have more when each value has its own: then call `check_texts`.
    """
    total = texts = 0
    try:
        for number, page in enumerate(_pages(file)):
            total += page.size + page.width * page.values
            check(total, limit)
            texts += page.values * page.longest
            if number > _PAGES:
                raise ValueError(f"it has more than {_PAGES} pages")
            if page.encoding == _DELTA_BYTE_ARRAY:
                raise ValueError("it has the encoding DELTA_BYTE_ARRAY")
    except (AttributeError, TypeError):  # a number where a struct is expected
        raise ValueError("its metadata are damaged") from None
    finally:
        file.seek(0)
    return texts > limit


def check_texts(opened: Any, limit: int) -> None:
    """Raise `ValueError` if the texts of a file have more than `limit` bytes, when each value has its own.

    `opened` is a `pyarrow.parquet.ParquetFile` that reads the columns `texts_of` as dictionaries.
    """
    total = 0
    for batch in opened.iter_batches(_BATCH, columns=texts_of(opened.schema)):
        for column in batch.columns:
            total += _texts(column)
            check(total, limit)


def texts_of(schema: Any) -> list[str]:
    """Return the paths of the columns whose values have any length, in a `pyarrow.parquet.ParquetSchema`."""
    columns = (schema.column(number) for number in range(len(schema)))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _texts(array: Any) -> int:
    """Return the bytes of the texts in an array, in which they are dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as compute

    types = pa.types
    if types.is_dictionary(array.type):
        lengths = compute.binary_length(array.dictionary)
        return int(compute.sum(lengths.take(array.indices)).as_py() or 0)
    if types.is_struct(array.type):
        return sum(map(_texts, array.flatten()))
    if types.is_map(array.type):
        return _texts(array.keys) + _texts(array.items)
    return _texts(array.values) if hasattr(array, "flatten") else 0


class _Page(NamedTuple):
    """A page: its bytes, the number of its values, the bytes of one, at most those of its text, and its encoding."""

    size: int
    values: int
    width: int
    longest: int
    encoding: int


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """Yield the pages of all columns. The values of a dictionary are counted with the pages that name them.

    The types in a column's own metadata need not be those of the schema: each column counts like the widest one.
    """
    footer = _footer(file)
    schema = footer.get(2) or ()
    width = max((element.get(2) or 0 for element in schema), default=0)
    texts = any(element.get(1) == _BYTE_ARRAY for element in schema)
    for group in footer.get(4) or ():
        for chunk in group.get(1) or ():
            yield from _pages_of(file, chunk.get(3) or {}, max(_WIDTH, width), texts=texts)


def _footer(file: BinaryIO) -> dict[int, Any]:
    """Return the fields of a file's metadata. Pyarrow ends the process for some that are damaged: it is not asked."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if not end.endswith(b"PAR1") or length > size - 8:
        raise ValueError("it is not a Parquet file, or is encrypted")
    file.seek(size - 8 - length)
    try:
        return _Compact(file.read(length)).fields()
    except IndexError:
        raise ValueError("its footer is damaged") from None


def _pages_of(file: BinaryIO, chunk: dict[int, Any], width: int, *, texts: bool) -> Iterator[_Page]:
    """Yield the pages of a part of a column, of which `chunk` are the metadata (`ColumnMetaData`)."""
    at, dictionary = chunk.get(9) or 0, chunk.get(11) or 0
    at = dictionary if 0 < dictionary < at else at
    end = at + (chunk.get(7) or 0) + _PADDING
    left, largest = chunk.get(5) or 0, 0
    while left > 0 and at < end:
        header, length = _header(file, at)
        data = header.get(5) or header.get(8) or {}
        values, encoding = data.get(1) or 0, data.get(4 if 8 in header else 2) or 0
        size, stored = header.get(2) or 0, header.get(3) or 0
        if min(values, size, stored) < 0:
            raise ValueError("a page has a negative size")
        largest = max(largest, size)
        yield _Page(size, values, width, largest if texts else 0, encoding)
        left -= values
        at += length + stored


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Return the fields of the header of a page at an offset, and its length."""
    size = 256
    while 0 < at < 1 << 62 and size <= _HEADER_LIMIT:
        file.seek(at)
        data = file.read(size)
        try:
            reader = _Compact(data)
            return reader.fields(), reader.at
        except IndexError:
            if len(data) < size:
                break
            size *= 8
    raise ValueError("the header of a page is damaged")


class _Compact:
    """Reads a struct in Thrift's compact protocol. Raises `IndexError` beyond the end, and `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def fields(self, depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct by their numbers: numbers, structs, lists of these, and None for the rest."""
        if depth > _DEPTH:
            raise ValueError("its metadata are nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._number()
            found[number] = None if kind & 15 in _BOOLEANS else self._value(kind & 15, depth)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        found = shift = 0
        while (byte := self._byte()) & 128 and shift < 64:
            found |= (byte & 127) << shift
            shift += 7
        return found | byte << shift

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self._number()
        if kind == 12:
            return self.fields(depth + 1)
        if kind == 9:
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind in (*_BOOLEANS, 3):
            self._skip(1)
        elif kind == 7:
            self._skip(8)
        elif kind == 8:
            self._skip(self._varint())
        else:  # the format has no sets and maps
            raise ValueError("its metadata are damaged")
        return None
