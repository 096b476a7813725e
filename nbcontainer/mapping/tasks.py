"""The items of a map as plain data: what each worker gets, with a command or a function and its input."""

from __future__ import annotations

import functools
import io
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_CLOUDPICKLE = "install cloudpickle: `pip install 'nbcontainer[map]'`"

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of this Python: only the same one reads the code of a pickled function."""


@dataclass(frozen=True)
class Work:
    """What is done with each input: a command that reads it, or a pickled function that is called with it.

    `timeout` is in seconds, `files` are paths in the container, `lifeline` names the notebook's socket.
    """

    image: Mapping[str, Any]
    command: tuple[str, ...]
    function: bytes | None
    timeout: float | None
    files: tuple[str, ...]
    lifeline: str

    def task(self, index: int, value: Any) -> dict[str, Any]:
        """Return the task of one item. Raises `TypeError` for an input that a command cannot read, `UsageError`."""
        task = {**vars(self), "image": dict(self.image), "index": index}
        if self.function is None:
            return task | {"input": _standard_input(value)}
        return task | {"argument": pickled(value, f"input {index}"), "python": PYTHON}


def _standard_input(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the input {value[:40]!a} is not Unicode text", hint="pass bytes") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    hint = "pass text or bytes, or a function as the command"
    raise UsageError(f"a command reads text or bytes, not an input of type '{type(value).__name__}'", hint=hint)


def pickled(value: Any, name: str) -> bytes:
    """Return a value as cloudpickle writes it. Raises `UsageError`."""
    try:
        import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise UsageError("a function is sent by cloudpickle, which is not installed", hint=_CLOUDPICKLE) from None
    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:  # what a class raises when it is pickled
        detail = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(f"cannot send {name}: {detail}", hint="use only values that can be pickled") from None


def function_inputs(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files of `/in` for a function: the program that calls it, cloudpickle, and the pickles."""
    return {
        "program": program(),
        "cloudpickle": packed_cloudpickle(),
        "function": task["function"],
        "argument": task["argument"],
    }


@functools.cache
def program() -> str:
    """Return the text of the program that calls a function in the container."""
    return Path(__file__).with_name("inside.py").read_text()


@functools.cache
def packed_cloudpickle() -> bytes:
    """Return cloudpickle as a zip file that Python imports from: it is pure Python. Raises `UsageError`."""
    try:
        import cloudpickle
    except ImportError:
        raise UsageError("the worker lacks cloudpickle", hint=_CLOUDPICKLE) from None
    home, packed = Path(cloudpickle.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(home.glob("*.py")):
            file.writestr(f"cloudpickle/{path.name}", path.read_bytes())
    return packed.getvalue()


def function_command(image: str, version: str) -> list[str]:
    """Return the command line that runs `program` in an image. The image `host` has the worker's own Python.

    `version` is that of the notebook's Python, which pickled the function.
    """
    python = sys.executable if image == "host" else "python3"
    return [python, "/in/program.txt", version]


def command_of(command: Sequence[str] | Callable[[Any], Any]) -> tuple[tuple[str, ...], bytes | None]:
    """Return the argument list, or the pickled function. Raises `TypeError`, `UsageError`."""
    from nbcontainer.runs import arguments

    if callable(command):
        if arguments.is_async(command):
            raise TypeError("the function must not be async: write one that calls asyncio.run()")
        return (), pickled(command, "the function")
    words = arguments.argv(command)
    if not words:
        raise UsageError("the command is empty", hint='write a list, as in ["wc", "-c"], or a function')
    return words, None
