"""The label of an image that describes the kernel in it. An image is not trusted: each value is checked.

Nothing of a label runs on the host: `argv` is a command in the container, and `shell` is a program there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from nbcontainer.errors import UsageError

LABEL = "org.nbcontainer.kernel"

INSIDE = ("argv", "language", "interrupt_mode")
"""The only keys of a kernelspec that a label has."""

_INTERRUPTS = ("signal", "message")
_CONNECTION = "{connection_file}"
_SIZE = 16 << 10  # characters of a label
_LANGUAGE = re.compile(r"[\w+#. -]{1,64}")
_WORD, _WORDS = 4096, 64  # characters of one argument, arguments


@dataclass(frozen=True)
class ShellLabel:
    """The kernel is this package's own, with that shell in the image; empty for bash or sh."""

    shell: str


@dataclass(frozen=True)
class KernelLabel:
    """The kernel is a program in the image: these keys of its kernelspec (jupyter-client, "Kernel specs")."""

    argv: tuple[str, ...]
    language: str
    interrupt_mode: str


def read_label(text: str) -> ShellLabel | KernelLabel:
    """Return what a label describes. Raises `UsageError` for one that is not valid."""
    if len(text) > _SIZE:
        _refuse(f"it has more than {_SIZE} characters")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        _refuse("it is not JSON")
    if not isinstance(values, dict):
        _refuse("it is not an object")
    if "argv" in values:
        return _kernel(values)
    if "shell" not in values:
        _refuse("it has neither `argv` nor `shell`")
    return ShellLabel(_text(values, "shell"))


def _kernel(values: dict[str, Any]) -> KernelLabel:
    argv = values["argv"]
    if not isinstance(argv, list) or not 0 < len(argv) <= _WORDS or not all(map(_is_word, argv)):
        _refuse(f"`argv` is not a list of 1 to {_WORDS} arguments")
    if not argv[0] or not any(_CONNECTION in word for word in argv):
        _refuse(f"`argv` has no program, or no {_CONNECTION}")
    mode = _text(values, "interrupt_mode", _INTERRUPTS[0])
    if mode not in _INTERRUPTS:
        _refuse("`interrupt_mode` is neither signal nor message")
    language = _text(values, "language")
    if not _LANGUAGE.fullmatch(language):
        _refuse("`language` is missing, or is not the name of a language")
    return KernelLabel(tuple(argv), language, mode)


def _text(values: dict[str, Any], key: str, default: str = "") -> str:
    value = values.get(key, default)
    if not _is_word(value):
        _refuse(f"`{key}` is not a line of text")
    return str(value)


def _is_word(value: Any) -> bool:
    """Return whether a value is a text without control characters, which a person can read and a program can take."""
    return isinstance(value, str) and len(value) <= _WORD and value.isprintable()


def _refuse(problem: str) -> NoReturn:
    raise UsageError(f"invalid label {LABEL} in the image: {problem}", hint="name the kernel with `--kernel`")
