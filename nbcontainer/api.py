"""The Python API: `nbcontainer.run("busybox", ["ls"], volumes=["~/data:/data:ro"])`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbcontainer.commands.options import limits
from nbcontainer.commands.options.capabilities import chosen
from nbcontainer.commands.options.ports import parse_port
from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.containers import commit as committing
from nbcontainer.containers import container as containers
from nbcontainer.containers import run as running
from nbcontainer.containers.cell import Request, Streams
from nbcontainer.containers.container import Container
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.options import RunOptions
from nbcontainer.errors import CellFailed
from nbcontainer.images import library
from nbcontainer.oci.documents import Image
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Outcome


@dataclass(frozen=True)
class Result:
    """A run that has ended. `stdout` and `stderr` are empty where they went to a callback."""

    container: Container
    outcome: Outcome
    stdout: bytes
    stderr: bytes

    def __repr__(self) -> str:
        return f"<Result: {self.outcome.describe()}, {len(self.stdout)} + {len(self.stderr)} bytes, {self.container!r}>"

    @property
    def text(self) -> str:
        """Standard output as text; what is no UTF-8 is replaced."""
        return self.stdout.decode("utf-8", "replace")


def run(
    image: str = "",
    command: Sequence[str] = (),
    *,
    script: str | None = None,
    name: str = "",
    volumes: Iterable[str] | Mapping[str, str] = (),
    tmpfs: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    workdir: str = "",
    user: str = "",
    hostname: str = "",
    network: str = "none",
    publish: Iterable[str] = (),
    read_only: bool = False,
    timeout: float | None = None,
    userns: str = "",
    platform: str = "",
    pull: str = library.MISSING,
    cap_add: Sequence[str] = (),
    cap_drop: Sequence[str] = (),
    memory: str = "",
    memory_swap: str = "",
    cpus: float | None = None,
    pids_limit: int | None = None,
    ulimits: Mapping[str, str | int] | None = None,
    shm_size: str = "",
    storage: str = "",
    remove: bool = False,
    check: bool = True,
    stdout: Callable[[bytes], None] | None = None,
    stderr: Callable[[bytes], None] | None = None,
    engine: Engine | None = None,
) -> Result:
    """Runs `command` in a container of `image`, or `script` as a file for its shell; with both, it is the input.

    The options are those of `%%container`: `volumes` as SRC:DST[:ro] strings or a {SRC: DST[:ro]} mapping, `publish` as
    [IP:]HOST:PORT[/udp] strings, `timeout` in seconds, `memory` and other sizes as in "512m", `ulimits` as in
    {"nofile": "1024:4096"}. `stdout` and `stderr` get the output as it comes, in place of the result. With `name` it
    goes on in that container. Raises `CellFailed` where the run ends badly, unless `check` is false, and the package's
    other errors.
    """
    pairs = [f"{source}:{target}" for source, target in volumes.items()] if isinstance(volumes, Mapping) else volumes
    options = RunOptions(
        volumes=tuple(parse_volume(text) for text in pairs),
        tmpfs=tuple(parse_tmpfs(text) for text in tmpfs),
        env=tuple(f"{key}={value}" for key, value in (env or {}).items()),
        workdir=workdir,
        user=user,
        hostname=hostname,
        network=network,
        ports=tuple(parse_port(text) for text in publish),
        read_only=read_only,
        timeout=timeout,
        userns=userns,
        platform=platform,
        pull=pull,
        capabilities=chosen(cap_add, cap_drop),
        cgroup_limits=limits.group_limits(
            memory,
            memory_swap,
            cpus="" if cpus is None else str(cpus),
            pids="" if pids_limit is None else str(pids_limit),
        ),
        ulimits=tuple(limits.parse_ulimit(f"{key}={value}") for key, value in (ulimits or {}).items()),
        shm_size=limits.shm_size(shm_size),
        storage=limits.storage(storage),
    )
    request = Request(image, name, tuple(command), script, remove, options)
    out: list[bytes] = []
    err: list[bytes] = []
    streams = Streams(stdout or out.append, stderr or err.append)
    container, outcome = running.run(engine or default_engine(), request, streams)
    if check and not outcome.ok:
        last = b"".join(err).decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise CellFailed(outcome.describe() + (f": {last}" if last else ""), outcome=outcome)
    return Result(container, outcome, b"".join(out), b"".join(err))


def create(image: str, name: str, *, engine: Engine | None = None) -> Container:
    """A new, named container, for `run(name=…)` to go on in. Raises `ContainerExists`, `ImageNotFound`."""
    used = engine or default_engine()
    return containers.create(used, used.images.find(image), name)


def get(name: str, *, engine: Engine | None = None) -> Container:
    """The container of that name. Raises `ContainerNotFound`."""
    return containers.get(engine or default_engine(), name)


def commit(
    container: Container,
    image: str,
    *,
    output: str | Path | None = None,
    message: str = "",
    changes: Sequence[str] = (),
) -> Image:
    """Makes an image of what the container's cells left, and with `output` (host path) a tar of its merged tree."""
    made = committing.commit(container, image, message=message, changes=changes)
    if output is not None:
        committing.export(container.workspace, container.record.layers, host_path(str(output)))
    return made
