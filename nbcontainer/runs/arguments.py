"""The arguments of Python callers that are not options of a run: each is checked where it is given."""

from __future__ import annotations

import inspect
import math
import numbers
import os
from typing import cast

from nbcontainer.commands.options.run_option import string, strings
from nbcontainer.containers.jobs.readiness import Awaited
from nbcontainer.errors import UsageError
from nbcontainer.oci import reference
from nbcontainer.oci.documents import Image


def whole(value: object) -> int | None:
    """Return a whole number, also one of NumPy; None for another value. A boolean is a number of nothing."""
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def number(value: object) -> float | None:
    """Return a number, which may be infinite or NaN, also one of NumPy; None for another value, and a boolean."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, 1 if cast("float", value) > 0 else -1)


def seconds(timeout: object) -> float:
    """Return a time to wait, which may be infinite. Raises `UsageError` for what is not a number from 0 on."""
    if (found := number(timeout)) is not None and found >= 0:
        return found
    raise UsageError(f"invalid timeout: {timeout!r}", hint="write a number of seconds")


def image(keyword: str, value: object) -> str:
    """Return what names an image: of an `Image`, its digest. Raises `TypeError` for another thing than these two."""
    if isinstance(value, Image):
        return value.name if value.name == reference.HOST else value.digest
    if not isinstance(value, str):
        raise TypeError(f"{keyword} must be a string or an Image, not {type(value).__name__}")
    return value


def awaited(wait_for: object) -> Awaited:
    """Return what `wait_for` names: a port, or a text as for `--wait-for`. Raises `TypeError`, `UsageError`."""
    if (port := whole(wait_for)) is not None:
        if not 0 < port < 1 << 16:
            raise UsageError(f"invalid port {port} for wait_for", hint="write a number from 1 to 65535")
        return Awaited(port=port)
    if not isinstance(wait_for, str):
        raise TypeError(f"wait_for must be a port or a text, not {type(wait_for).__name__}")
    return Awaited.of(wait_for)


def sink(keyword: str, function: object) -> None:
    """Check a function that gets output as it comes; None for none. Raises `TypeError` for another thing."""
    if function is not None and not callable(function):
        hint = f"write {keyword}=file.write" if hasattr(function, "write") else f"leave it out to have Result.{keyword}"
        raise TypeError(f"{keyword} must be a function of bytes, not {type(function).__name__}: {hint}")
    if is_async(function):
        raise TypeError(f"{keyword} must be a function of bytes, not an async one: read the events of stream() instead")


def is_async(function: object) -> bool:
    """Whether a call of this returns a coroutine, which does nothing until it is awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def path(keyword: str, value: object) -> str:
    """Return a path of the host as text. Raises `TypeError` for what is not a string or a path of strings."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{keyword} must be a path, not {type(value).__name__}")
    return text


def path_inside(path: object) -> None:
    """Check a path of a container. Raises `TypeError`, and `UsageError` for a text that no file name can have."""
    if not _can_be_passed(string("path", path)):
        raise UsageError(f"invalid path in the container: {path!a}", hint="write an absolute path, as in /srv/data")


def unicode(keyword: str, text: str) -> bytes:
    """Return a text in UTF-8. Raises `UsageError` for a lone surrogate, which has none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        problem = f"{keyword} contains a character that is not Unicode text, at position {error.start}"
        raise UsageError(problem, hint="remove it") from None


def argv(command: object) -> tuple[str, ...]:
    """Return the arguments of a command. Raises `TypeError`, and `UsageError` for a text that no argument can have."""
    found = tuple(strings("command", command))
    for word in found:
        if not _can_be_passed(word):
            problem = f"the argument {word!a} contains a character that is not Unicode text"
            raise UsageError(problem, hint="remove it")
        if "\0" in word:
            raise UsageError("an argument contains a NUL character", hint="remove it")
    return found


def _can_be_passed(text: str) -> bool:
    """Whether the system has bytes for a text, as an argument or a file name: a lone surrogate has none."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
