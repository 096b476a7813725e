"""`-e` and `--env-file`: from arguments to NAME=value strings."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.oci.reference import host_path
from nbcontainer.store import user_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.linux.paths import Link


def parse_variable(text: str) -> list[str]:
    """Return `NAME=value` as it is, and `NAME` with the notebook's own value.

    If the notebook has none, `NAME` is returned as it is: as with Docker, the image's variable is removed. Raises
    `UsageError`.
    """
    name, equals, _ = text.partition("=")
    if not name:
        hint = "write NAME=value, or NAME for the notebook's value"
        raise UsageError(f"invalid environment variable {text!r}", hint=hint)
    if equals:
        return [text]
    return [f"{name}={os.environ[name]}" if name in os.environ else name]


_SIZE_LIMIT = 16 << 20


@dataclass(frozen=True)
class EnvFile:
    """The variables of a file, and the links that its path led through: the run checks them when it has a store."""

    variables: tuple[str, ...]
    links: tuple[Link, ...]


def parse_env_file(name: str) -> EnvFile:
    """Return the variables of a file (host path), one a line, as Docker reads it. Raises `UsageError`."""
    path = host_path(name)
    try:
        fd, links = user_files.open_file(path)
        try:
            with open(fd, "rb", closefd=False) as file:  # raises `IsADirectoryError`
                data = file.read(_SIZE_LIMIT + 1)
        finally:
            os.close(fd)
    except ImageError as error:
        raise UsageError(f"--env-file: {error.message}", hint=error.hint) from None
    except OSError as error:
        hint = "write the path of a text file of NAME=value lines"
        raise UsageError(f"cannot read --env-file '{path}': {error.strerror}", hint=hint) from None
    if len(data) > _SIZE_LIMIT:
        raise UsageError(f"--env-file '{path}' is larger than {_SIZE_LIMIT >> 20} MiB", hint="name a smaller file")
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    items = [item for number, line in enumerate(lines, 1) for item in _of_line(line, f"{path}:{number}")]
    return EnvFile(tuple(items), links)


def _of_line(line: bytes, place: str) -> list[str]:
    """Return the variable in a line of a file, by the rules of docker/cli, pkg/kvfile.

    Quotes are characters, white space is removed before the name only, and lines that begin with # are comments.
    """
    try:
        text = line.removesuffix(b"\r").decode().lstrip(" \t")
    except UnicodeDecodeError as error:
        problem = f"cannot read --env-file: {place}: byte {error.start + 1} of the line is not UTF-8"
        raise UsageError(problem, hint="save the file as UTF-8") from None
    if not text or text.startswith("#"):
        return []
    name, equals, _ = text.partition("=")
    if not name or " " in name or "\t" in name or "\0" in text:
        hint = "write NAME=value, without spaces before the = and without `export`"
        raise UsageError(f"cannot read --env-file: {place}: invalid variable {text[:80]!r}", hint=hint)
    if equals:
        return [text]
    return [f"{name}={os.environ[name]}"] if name in os.environ else []


def variables(env_file: Sequence[EnvFile] = (), env: Sequence[Iterable[str]] = ()) -> tuple[str, ...]:
    """Return the variables of the files first, then those of the options: of two with one name, the last one counts."""
    return tuple(itertools.chain.from_iterable((*(file.variables for file in env_file), *env)))
