"""JSON that nobody trusts: bounded, strict, and of the types that are expected."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from nbcontainer.errors import ImageError

LIMIT = 4 << 20
"""Bytes of one document: what registries must take of a manifest (distribution-spec, "Pushing Manifests")."""

_DEPTH = 64
_DIGITS = 19  # of a number of 64 bits


def parse(data: bytes, what: str) -> dict[str, Any]:
    """The object that `data` is; `what` it is, for the message. Raises `ImageError`."""
    if len(data) > LIMIT:
        raise ImageError(f"{what} has more than {LIMIT >> 20} MiB, which is the limit")
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=refuse)
        depth = nested(document, _DEPTH)
    except UnicodeDecodeError:
        raise ImageError(f"{what} is no UTF-8 text") from None
    except RecursionError:
        depth = _DEPTH + 1
    except ValueError as error:
        raise ImageError(f"{what} is no JSON: {error}") from None
    if depth > _DEPTH:
        raise ImageError(f"{what} is nested deeper than {_DEPTH} levels, which is the limit")
    if not isinstance(document, dict):
        raise ImageError(f"{what} is no JSON object")
    return document


def refuse(constant: str) -> NoReturn:
    """What `json.loads` is to do with NaN and the like, which are no JSON (RFC 8259, 6). Raises `ValueError`."""
    raise ValueError(f"{constant} is no JSON number")


def nested(document: Any, most: int) -> int:
    """Levels of lists and objects, counted flat, and no further than one above `most`."""
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
    """The string at `key`, empty where there is none. Raises `ImageError`."""
    return str(_typed(document, key, "", what))


def objects(document: dict[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """The list of objects at `key`. Raises `ImageError`."""
    found: list[Any] = _typed(document, key, [], what)
    if not all(isinstance(item, dict) for item in found):
        raise ImageError(f"{what}: {key} is no list of objects")
    return found


def strings(document: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    """The list of strings at `key`. Raises `ImageError`."""
    found: list[Any] = _typed(document, key, [], what)
    if not all(isinstance(item, str) for item in found):
        raise ImageError(f"{what}: {key} is no list of strings")
    return tuple(found)


def mapping(document: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    """The object at `key`. Raises `ImageError`."""
    return dict(_typed(document, key, {}, what))


def _typed(document: dict[str, Any], key: str, default: Any, what: str) -> Any:
    """The value at `key`, of the type that `default` has."""
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, type(default)):
        name = "a string" if default == "" else "a list" if default == [] else "an object"
        raise ImageError(f"{what}: {key} is not {name}")
    return value
