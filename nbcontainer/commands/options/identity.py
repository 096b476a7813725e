"""`--identity`: the name and the e-mail address of the user, as git on this machine has them.

Only these two values leave the user's configuration. In the container they are git's system configuration, which any
other configuration of git overrides (git-config(1), "FILES").
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nbcontainer.containers.options import Identity

_KEYS = {"user.name": "name", "user.email": "email"}
_SECONDS = 10


class Identities:
    """The identity of the user, read again when a file of git's configuration has changed."""

    def __init__(self) -> None:
        self._facts: tuple[object, ...] | None = None
        self._found = Identity()

    def read(self) -> Identity:
        """Return the identity; empty if git has none, or is not installed."""
        facts = _facts()
        if facts != self._facts:
            self._facts, self._found = facts, _ask_git()
        return self._found


def _facts() -> tuple[object, ...]:
    """Return what changes when the user's configuration does."""
    home = os.environ.get("HOME", "")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    chosen = os.environ.get("GIT_CONFIG_GLOBAL", "")
    facts: list[object] = [home, config, chosen]
    for path in (f"{home}/.gitconfig", f"{config}/git/config", chosen):
        try:
            found = Path(path).stat()
            facts.append((found.st_mtime_ns, found.st_size, found.st_ino))
        except OSError:
            facts.append(None)
    return tuple(facts)


def _ask_git() -> Identity:
    command = ("git", "config", "--global", "--includes", "--null", "--get-regexp", r"^user\.(name|email)$")
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return Identity()
    found: dict[str, str] = {}
    for item in done.stdout.decode("utf-8", "replace").split("\0"):
        key, _, value = item.partition("\n")
        if key in _KEYS and "\0" not in value:
            found[_KEYS[key]] = value
    return Identity(**found)


_identities = Identities()


def read_identity(identity: bool, identities: Identities = _identities) -> Identity | None:
    """Return the identity for a run with `--identity`, None for one without."""
    return identities.read() if identity else None
