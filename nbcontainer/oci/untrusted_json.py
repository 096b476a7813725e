"""Untrusted JSON: limits of size and depth, strict syntax, and checked types."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from nbcontainer.errors import ImageError

LIMIT = 4 << 20
"""Bytes of one document: registries must accept manifests of that size (distribution-spec, "Pushing Manifests")."""

_DEPTH = 64
_ESCAPED = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
"""What a document has if one of its strings has a surrogate or a zero byte: UTF-8 has no other form of them."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = 19  # of a number of 64 bits


def parse(data: bytes, what: str) -> dict[str, Any]:
    """Return the object in `data`; `what` names it in messages. Raises `ImageError`."""
    if len(data) > LIMIT:
        raise ImageError(f"{what} is larger than the limit of {LIMIT >> 20} MiB")
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=refuse)
        depth = nested(document, _DEPTH)
    except UnicodeDecodeError:
        raise ImageError(f"{what} is not UTF-8 text") from None
    except RecursionError:
        depth = _DEPTH + 1
    except ValueError as error:
        raise ImageError(f"{what} is not JSON: {error}") from None
    if depth > _DEPTH:
        raise ImageError(f"{what} is nested deeper than the limit of {_DEPTH} levels")
    if not isinstance(document, dict):
        raise ImageError(f"{what} is not a JSON object")
    if _ESCAPED.search(data):
        _check_texts(document, what)
    return document


def _check_texts(document: dict[str, Any], what: str) -> None:
    """Raise `ImageError` for a string that is not Unicode text (a lone surrogate, RFC 8259, 8.2), or has a zero byte.

    The message says where it is. The document is not nested too deeply.
    """
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            if problem := _problem(value):
                raise ImageError(f"{what}: {place.lstrip('.')[:200] or 'a key'} has {problem}")
        elif isinstance(value, dict):
            if problem := next(filter(None, map(_problem, value)), ""):
                raise ImageError(f"{what}: a key of {place.lstrip('.')[:200] or 'the object'} has {problem}")
            waiting += [(f"{place}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{place}[{number}]", inner) for number, inner in enumerate(value)]


def _problem(text: str) -> str:
    if "\0" in text:
        return "a zero byte"
    return "a lone surrogate" if _SURROGATE.search(text) else ""


def refuse(constant: str) -> NoReturn:
    """Raise `ValueError` for NaN and the like, which `json.loads` accepts but JSON does not have (RFC 8259, 6)."""
    raise ValueError(f"{constant} is not a JSON number")


def nested(document: Any, most: int) -> int:
    """Return the levels of lists and objects, counted without recursion up to one above `most`."""
    level, depth = [document], 0
    while level and depth <= most:
        inside: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inside += value.values()
            elif isinstance(value, list):
                inside += value
        level = [value for value in inside if isinstance(value, (dict, list))]
        depth += 1
    return depth


def number(text: str) -> int | None:
    """The whole number that `text` writes in decimal digits of ASCII, 19 at most; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def text(document: dict[str, Any], key: str, what: str) -> str:
    """Return the string at `key`, empty if it is missing. Raises `ImageError`."""
    return str(_typed(document, key, "", what))


def objects(document: dict[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """Return the list of objects at `key`, empty if it is missing. Raises `ImageError`."""
    found: list[Any] = _typed(document, key, [], what)
    if not all(isinstance(item, dict) for item in found):
        raise ImageError(f"{what}: {key} is not a list of objects")
    return found


def strings(document: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    """Return the list of strings at `key`, empty if it is missing. Raises `ImageError`."""
    found: list[Any] = _typed(document, key, [], what)
    if not all(isinstance(item, str) for item in found):
        raise ImageError(f"{what}: {key} is not a list of strings")
    return tuple(found)


def mapping(document: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    """Return the object at `key`, empty if it is missing. Raises `ImageError`."""
    return dict(_typed(document, key, {}, what))


def _typed(document: dict[str, Any], key: str, default: Any, what: str) -> Any:
    """Return the value at `key`, which has the type of `default`; the default if it is missing."""
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, type(default)):
        name = "a string" if default == "" else "a list" if default == [] else "an object"
        raise ImageError(f"{what}: {key} is not {name}")
    return value
