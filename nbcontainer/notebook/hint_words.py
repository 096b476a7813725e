"""Paths in a cell's body, and what they name on this machine. The body is the user's own text."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import itertools
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = re.compile(r"""[^\s'"`|&;<>(){}$=,\[\]]+|\$HOME/[^\s'"`|&;<>(){}$=,]+""")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_PINGS = re.compile(r"(?:^|[;&|({`]|\bbusybox[ \t])[ \t]*ping6?[ \t]", re.MULTILINE)
_NEEDS_IDENTITY = re.compile(
    r"\bgit\b[^\n;&|]{0,200}[ \t](?:am|cherry-pick|commit|merge|pull|rebase|revert|stash|tag\s+-[am])\b"
)
_SETS_IDENTITY = re.compile(r"\buser\.(?:name|email)\b|\bGIT_(?:AUTHOR|COMMITTER)_(?:NAME|EMAIL)\b")
_SIZE = 1 << 16  # characters of a body that are looked at
_MOST = 400  # paths of it
_LISTED = 10_000  # names of a directory
_OWN = frozenset("PATH HOME HOSTNAME TERM PWD OLDPWD SHELL SHLVL IFS RANDOM LINENO SECONDS UID PPID USER LANG".split())
"""Variables that containers and shells set themselves."""


def words(body: str) -> list[str]:
    """Return the strings of a body that may be paths, each once."""
    found = dict.fromkeys(word.group().removesuffix("/") for word in _WORD.finditer(body[:_SIZE]))
    return [word for word in found if word.strip("./*-") and not word.startswith("-") and _can_be_path(word)][:_MOST]


def _can_be_path(word: str) -> bool:
    """Return whether the kernel could take a word as a path: a NUL and lone surrogates are in none."""
    try:
        return b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        return False


def working_directory() -> str:
    """Return the notebook's directory; empty if it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def beside(directory: str, found: Iterable[str]) -> str:
    """Return the first word that names a file in a directory (host); empty if none does.

    A word with a pattern (glob(7)) in its last part counts if a file matches it. The name of a program does not count.
    """
    listed: dict[str, list[str]] = {}
    for word in found:
        path = os.path.normpath(os.path.join(directory, word))  # noqa: PTH118 - a word is not a path yet
        if not path.startswith(f"{directory.rstrip('/')}/") or len(word) > 255:
            continue
        if glob.has_magic(word):
            above, _, pattern = path.rpartition("/")
            if glob.has_magic(above):
                continue
            if above not in listed:
                listed[above] = _names(above)
            if _matches(listed[above], pattern):
                return word
        elif os.path.lexists(path) and ("/" in word or "." in word or not shutil.which(word)):
            return word
    return ""


def _names(directory: str) -> list[str]:
    """Return the first names in a directory (host); none if it cannot be listed."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [entry.name for entry in itertools.islice(entries, _LISTED)]
    return []


def _matches(names: Iterable[str], pattern: str) -> bool:
    """Return whether a pattern matches a name as a shell's does: a leading dot only by a dot."""
    hidden = pattern.startswith(".")
    return any(name.startswith(".") == hidden for name in fnmatch.filter(names, pattern))


def in_home(found: Iterable[str]) -> str:
    """Return the first word that names an existing file by `~/`, or by the path of the home directory."""
    home = os.path.expanduser("~")  # noqa: PTH111 - it does not raise
    for word in found:
        path = f"{home}/{word[2:]}" if word.startswith("~/") else word
        if path.startswith(f"{home}/") and home != "/" and len(path) < 1024 and os.path.lexists(path):
            return word
    return ""


def has_negation(body: str) -> bool:
    """Return whether a line begins with `! command`."""
    return bool(re.search(r"^[ \t]*! +\S", body[:_SIZE], re.MULTILINE))


def pings(body: str) -> bool:
    """Return whether a body runs `ping`."""
    return bool(_PINGS.search(body[:_SIZE]))


def needs_identity(body: str) -> bool:
    """Return whether a body runs a command of git that needs a name and an e-mail address, and sets none itself."""
    text = body[:_SIZE]
    return bool(_NEEDS_IDENTITY.search(text)) and not _SETS_IDENTITY.search(text)


def notebook_variable(body: str, own: set[str]) -> str:
    """Return the first variable that a body reads, and only the notebook's environment has; empty if there is none.

    `own` are the names of the container's variables.
    """
    text = body[:_SIZE]
    for name in dict.fromkeys(found[1] or found[2] for found in _VARIABLE.finditer(text)):
        if name in os.environ and name not in own and name not in _OWN and not _is_set(name, text):
            return name
    return ""


def _is_set(name: str, text: str) -> bool:
    """Return whether a body seems to set a variable: `NAME=`, `for NAME`, `read NAME`, or by a file that it sources."""
    by_command = rf"\b(?:for|read|getopts|declare|local|mapfile)\b[^\n;]{{0,200}}\b{name}\b"
    return bool(re.search(rf"\b{name}\+?=|{by_command}", text))
