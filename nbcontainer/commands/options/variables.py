"""`-e` and `--env-file`: from words to NAME=value strings."""

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
    """Return `NAME=value` as it is, and `NAME` with the notebook's own value; nothing if the notebook has none.

    Raises `UsageError`.
    """
    name, equals, _ = text.partition("=")
    if not name:
        hint = "write NAME=value, or NAME for the notebook's value"
        raise UsageError(f"invalid environment variable {text!r}", hint=hint)
    if equals:
        return [text]
    return [f"{name}={os.environ[name]}"] if name in os.environ else []


@dataclass(frozen=True)
class EnvFile:
    """The variables of a file, and the links that its path led through: the run checks them when it has a store."""

    variables: tuple[str, ...]
    links: tuple[Link, ...]


def parse_env_file(name: str) -> EnvFile:
    """Return the variables of a file (host path), one a line; empty lines and comments are left out.

    Raises `UsageError`.
    """
    path = host_path(name)
    try:
        fd, links = user_files.open_file(path)
        with os.fdopen(fd) as file:
            text = file.read()
    except ImageError as error:
        raise UsageError(f"--env-file: {error.message}", hint=error.hint) from None
    except (OSError, ValueError) as error:
        hint = "write the path of a text file of NAME=value lines"
        raise UsageError(f"cannot read --env-file '{path}': {error}", hint=hint) from None
    lines = (line.strip() for line in text.splitlines())
    items = [item for line in lines if line and not line.startswith("#") for item in parse_variable(line)]
    return EnvFile(tuple(items), links)


def variables(env_file: Sequence[EnvFile] = (), env: Sequence[Iterable[str]] = ()) -> tuple[str, ...]:
    """Return the variables of the files first, then those of the options: of two with one name, the last one counts."""
    return tuple(itertools.chain.from_iterable((*(file.variables for file in env_file), *env)))
