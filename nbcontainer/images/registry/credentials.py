"""Credentials for registries, from the files of `docker login` and `podman login` (containers-auth.json(5))."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, RegistryError
from nbcontainer.linux.process import find_program
from nbcontainer.oci import untrusted_json
from nbcontainer.oci.reference import HUB
from nbcontainer.store import user_files

if TYPE_CHECKING:
    from collections.abc import Iterable

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", HUB, "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_TIMEOUT = 30  # seconds
_TOKEN_USER = "<token>"  # what a helper prints as the user if the secret is an identity token


@dataclass(frozen=True)
class Credentials:
    """A user and a password, or an identity token (OAuth 2 refresh token) alone."""

    user: str = ""
    password: str = ""
    identity: str = ""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"  # without secrets, which could be printed

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617), `Basic …`."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def credential_files() -> list[Path]:
    """Return the files that can have credentials, in the order in which they are read."""
    if chosen := os.environ.get("REGISTRY_AUTH_FILE"):
        return [Path(chosen)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    podman = Path(runtime, "containers") if runtime else Path(f"/run/containers/{os.getuid()}")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    return [podman / "auth.json", config / "containers/auth.json", docker / "config.json"]


def find(host: str, path: str, files: Iterable[Path] | None = None) -> Credentials | None:
    """Return the credentials for the repository `path` on `host`, those of the longest name that matches, or None.

    Raises `RegistryError` for an unreadable file, or a helper that fails.
    """
    for file in credential_files() if files is None else files:
        try:
            data = user_files.read_settings(file)
        except OSError:
            continue
        try:
            document = untrusted_json.parse(data, str(file))
            found = _in_file(document, host, path)
        except RegistryError:
            raise
        except Exception as error:
            raise RegistryError(f"cannot read {file}: {error}", hint="repair the file, or log in again") from None
        if found is not None:
            return found
    return None


def _in_file(document: dict[str, Any], host: str, path: str) -> Credentials | None:
    keys = _keys(host, path)
    helpers = untrusted_json.mapping(document, "credHelpers", "credHelpers")
    for key in keys:
        if isinstance(helper := helpers.get(key), str):
            return _from_helper(helper, key)
    auths = untrusted_json.mapping(document, "auths", "auths")
    known = {_plain(key): value for key, value in auths.items() if isinstance(value, dict)}
    for key in keys:
        if (found := _from_entry(known.get(_plain(key), {}))) is not None:
            return found
    store = untrusted_json.text(document, "credsStore", "credsStore")
    if store:
        for key in _HUB_KEYS[:1] if host == HUB else (host,):
            if (found := _from_helper(store, key)) is not None:
                return found
    return None


def _keys(host: str, path: str) -> list[str]:
    """Return the names that a repository's credentials can have, the longest first."""
    parts = path.split("/")
    names = [f"{host}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]
    return [*names, *(_HUB_KEYS if host == HUB else (host,))]


def _plain(key: str) -> str:
    """Return the name in a key; old files have URLs as keys."""
    bare = re.sub(r"^https?://", "", key)
    return re.sub(r"/v[12]/?$", "", bare).rstrip("/")


def _from_entry(entry: dict[str, Any]) -> Credentials | None:
    if identity := entry.get("identitytoken"):
        return Credentials(identity=str(identity))
    if auth := entry.get("auth"):
        user, colon, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
        if not colon:
            raise ValueError("an auth value has no colon")
        return Credentials(user, password.rstrip("\0"))
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]))
    return None


def _printable(text: bytes) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text.decode(errors="replace"))


def _from_helper(name: str, key: str) -> Credentials | None:
    """Return what `docker-credential-NAME get` prints (docker-credential-helpers), or None if it has no credentials."""
    if not _HELPER.fullmatch(name):
        raise RegistryError(f"invalid name {name!r} of a credential helper", hint="repair your docker or podman login")
    program = f"docker-credential-{name}"
    found = find_program(program)
    if found is None:
        hint = "install it in a directory of PATH that begins with /, or log in again"
        raise RegistryError(f"cannot run {program}: it is not in PATH", hint=hint)
    try:
        done = subprocess.run(
            [found, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"cannot run {program}: {error}", hint="install it, or log in again") from None
    if done.returncode != 0:
        if b"not found" in (done.stdout + done.stderr).lower():
            return None
        message = " ".join(_printable(done.stdout or done.stderr).split())[:200]
        raise RegistryError(f"{program} failed: {message}", hint="log in again")
    try:
        answer = untrusted_json.parse(done.stdout, program)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ImageError, KeyError):
        raise RegistryError(f"{program} printed no valid credentials", hint="log in again") from None
    return Credentials(identity=secret) if user == _TOKEN_USER else Credentials(user, secret)
