"""The peers that images are exchanged with, each in a place of its own: podman, skopeo, umoci, a registry."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.engine import Engine
from nbcontainer.images.builtin import busybox
from tests.networks import free_port
from tests.requirements import require, require_root
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.oci.documents import Image

USER, PASSWORD = "somebody", "a password"


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """A program's standard output; the test fails with its standard error where the program does."""
    env = os.environ | (environment or {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Podman:
    """podman on storage of its own, with runc and without a cgroup of its own."""

    def __init__(self, place: Path) -> None:
        self._options = [
            "--root",
            str(place / "root"),
            "--runroot",
            str(place / "run"),
            "--tmpdir",
            str(place / "tmp"),
            "--runtime",
            "/usr/sbin/runc",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]
        place.mkdir(exist_ok=True)
        self._conf = place / "containers.conf"
        # More than this shell may have is asked for by default, and refused.
        self._conf.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')

    def __call__(self, *words: str | Path) -> str:
        """Runs a command; its standard output."""
        return run("podman", *self._options, *words, environment={"CONTAINERS_CONF": str(self._conf)})


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman with nothing in it; its storage is gone afterwards."""
    require("podman")
    require("runc", available=Path("/usr/sbin/runc").exists())
    require_root()
    made = Podman(tmp_path_factory.mktemp("podman"))
    yield made
    made("system", "reset", "--force")


@pytest.fixture(scope="session")
def built(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name, in podman, of an image of three layers that has a bit of everything."""
    place = tmp_path_factory.mktemp("build")
    (place / "busybox.tar").write_bytes(busybox.busybox()[0])
    podman("import", place / "busybox.tar", "localhost/base:1")
    (place / "Dockerfile").write_text(
        """FROM localhost/base:1
ENV GREETING=hello
RUN mkdir /app && echo text > /app/file && ln /app/file /app/hard && ln -s file /app/soft \
 && touch -d '2001-02-03 04:05:06' /app/file && chmod 4755 /app/file && mkfifo /app/fifo && mkdir -m 1777 /app/open
RUN rm /etc/shells && rm -r /var/spool && mkdir /var/spool && echo new > /var/spool/new && chown 33:44 /app/open
LABEL colour=green
WORKDIR /app
USER 33:33
STOPSIGNAL SIGINT
CMD ["sh", "-c", "echo $GREETING; id -u; pwd; cat file"]
"""
    )
    podman("build", "--isolation", "chroot", "-t", "localhost/built:2", place)
    return "localhost/built:2"


@dataclass(frozen=True)
class Registry:
    """A running docker-registry; `auth` is a file with the credentials that it wants, if it wants any."""

    address: str
    auth: Path | None = None

    def digest(self, name: str) -> str:
        """A manifest's digest, as skopeo sees it."""
        return str(self.inspect(name)["Digest"])

    def inspect(self, name: str) -> dict[str, Any]:
        """What skopeo says of an image."""
        options = ["--authfile", str(self.auth)] if self.auth else []
        text = run("skopeo", "inspect", "--tls-verify=false", *options, f"docker://{self.address}/{name}")
        return dict(json.loads(text))


def _serve(place: Path, extra: str = "") -> tuple[subprocess.Popen[bytes], str]:
    """Starts docker-registry on a free port of loopback, and waits until it listens."""
    require("docker-registry")
    address = f"127.0.0.1:{free_port()}"
    (place / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\n"
        f"http: {{addr: {address}}}\n{extra}"
    )
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", place / "config.yml"],
            stdout=log,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    deadline = time.monotonic() + DEADLINE
    host, _, port = address.partition(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return process, address


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An empty registry that lets everybody in."""
    process, address = _serve(tmp_path_factory.mktemp("registry"))
    yield Registry(address)
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def locked_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry for `USER` alone."""
    require("htpasswd")
    place = tmp_path_factory.mktemp("locked")
    (place / "htpasswd").write_text(run("htpasswd", "-Bbn", USER, PASSWORD))
    process, address = _serve(place, f"auth: {{htpasswd: {{realm: here, path: {place}/htpasswd}}}}\n")
    run("skopeo", "login", "--tls-verify=false", "--authfile", place / "auth.json", "-u", USER, "-p", PASSWORD, address)
    yield Registry(address, place / "auth.json")
    process.terminate()
    process.wait()


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's credentials and configuration but the test's."""
    (tmp_path / "auth.json").write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", os.devnull)


class Ours:
    """This package's verbs on an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, verb: str, *words: str | Path) -> str:
        """Does a verb; its answer as text."""
        chosen = VERBS[verb]
        return str(chosen.run(Invocation(self.engine, parse(chosen.command, [str(word) for word in words]))))

    def image(self, name: str) -> Image:
        """An image of the store."""
        return self.engine.store.index.image(name)


@pytest.fixture
def ours(engine: Engine) -> Ours:
    """This package's verbs on the run's store."""
    return Ours(engine)


@pytest.fixture
def fresh(tmp_path: Path, engine: Engine) -> Iterator[Ours]:
    """This package's verbs on an empty store."""
    opened = Engine(tmp_path / "fresh")
    yield Ours(opened)
    opened.close()
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
