"""Codecs of text, bytes and JSON."""

from __future__ import annotations

import json
from typing import Any, BinaryIO


class TextCodec:
    """`str` as UTF-8, byte for byte: no line end is changed."""

    suffix = "txt"

    def accepts(self, value: object) -> bool:
        """Return whether the value is text."""
        return isinstance(value, str)

    def write(self, value: str, file: BinaryIO) -> None:
        """Write the text. Raises `ValueError` for a lone surrogate."""
        file.write(value.encode())

    def read(self, file: BinaryIO) -> str:
        """Return the text. Raises `ValueError` if it is not UTF-8."""
        return file.read().decode()


class BytesCodec:
    """`bytes`, `bytearray` and `memoryview`; read as `bytes`."""

    suffix = "bin"

    def accepts(self, value: object) -> bool:
        """Return whether the value is bytes."""
        return isinstance(value, bytes | bytearray | memoryview)

    def write(self, value: bytes | bytearray | memoryview, file: BinaryIO) -> None:
        """Write the bytes."""
        view = memoryview(value)
        file.write(view if view.c_contiguous else view.tobytes())

    def read(self, file: BinaryIO) -> bytes:
        """Return the bytes."""
        return file.read()


class JsonCodec:
    """What `json.dumps` accepts: None, booleans, numbers, lists and dictionaries. Tuples come back as lists."""

    suffix = "json"

    def accepts(self, value: object) -> bool:
        """Return whether the value is of one of these types; `write` looks at what it contains."""
        return value is None or isinstance(value, bool | int | float | list | tuple | dict)

    def write(self, value: Any, file: BinaryIO) -> None:
        """Write the value. Raises `TypeError` or `ValueError` for what JSON cannot hold.

        JSON has only text as keys: numbers become text. Two keys that become the same text are refused.
        """
        try:
            text = json.dumps(value, ensure_ascii=False)
            _check_keys(value)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        file.write(text.encode())

    def read(self, file: BinaryIO) -> Any:
        """Return the value. Raises `ValueError`."""
        try:
            return json.loads(file.read())
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def _check_keys(value: Any) -> None:
    """Raise `ValueError` if two keys of one dictionary are the same text in JSON, as 1 and "1" are."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key in value:
            text = key if isinstance(key, str) else json.dumps(key)
            if text in found:
                raise ValueError(f"the keys {found[text]!r} and {key!r} are the same in JSON")
            found[text] = key
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for one in value:
        if isinstance(one, dict | list | tuple):
            _check_keys(one)
