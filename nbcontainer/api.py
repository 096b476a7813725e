"""The Python API: `nbcontainer.run("busybox", ["ls"], volumes=["~/data:/data:ro"])`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from nbcontainer.commands.options.table import RunKeywords, strings
from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import commit as committing
from nbcontainer.containers import container as containers
from nbcontainer.containers import run as running
from nbcontainer.containers.cell import Streams
from nbcontainer.containers.container import Container
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.snapshot import held
from nbcontainer.errors import CellFailed
from nbcontainer.oci.documents import Image
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Outcome


@dataclass(frozen=True)
class Result:
    """A run that has ended. `stdout` and `stderr` are empty if they went to a callback."""

    container: Container
    outcome: Outcome
    stdout: bytes
    stderr: bytes

    def __repr__(self) -> str:
        return f"<Result: {self.outcome.describe()}, {len(self.stdout)} + {len(self.stderr)} bytes, {self.container!r}>"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, with the output as text; `outcome` has the form that `inspect` and `history` show."""
        return {
            "container": self.container.name,
            "image": self.container.record.image,
            "outcome": self.outcome.as_dict(),
            "stdout": self.text,
            "stderr": self.stderr.decode("utf-8", "replace"),
        }

    def _repr_html_(self) -> str:
        from nbcontainer.rendering.fields import Size
        from nbcontainer.rendering.quantities import duration
        from nbcontainer.rendering.table import facts

        outcome, container = self.outcome, self.container
        return facts(
            "result",
            (
                ("ended", outcome.state),
                ("time", duration(outcome.wall_time)),
                ("container", f"{container.name} of {container.record.image}"),
                ("stdout", Size(len(self.stdout))),
                ("stderr", Size(len(self.stderr))),
            ),
        )

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")


def run(
    image: str = "",
    command: Sequence[str] = (),
    *,
    script: str | None = None,
    check: bool = True,
    stdout: Callable[[bytes], None] | None = None,
    stderr: Callable[[bytes], None] | None = None,
    engine: Engine | None = None,
    **options: Unpack[RunKeywords],
) -> Result:
    """Run `command` in a container of `image`, or `script` as a file for its shell; with both, it is the input.

    The options are those of `%%container` (docs/reference-options.md): `volumes` as SRC:DST[:ro] strings or a
    {SRC: DST[:ro]} mapping, `publish` as [IP:]HOST:PORT[/udp] strings, `timeout` in seconds, `memory` and other sizes
    as in "512m", `ulimits` as in {"nofile": "1024:4096"}. `stdout` and `stderr` get the output as it comes, in place
    of the result. With `name` it runs in that container. Raises `CellFailed` if the run fails, unless `check` is
    false, `TypeError` for an unknown option or a value of a wrong type, and the package's other errors.
    """
    request = request_of_keywords(image, tuple(strings("command", command)), script, options)
    out: list[bytes] = []
    err: list[bytes] = []
    streams = Streams(stdout or out.append, stderr or err.append)
    container, outcome = running.run(engine or default_engine(), request, streams)
    if check and not outcome.ok:
        last = b"".join(err).decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise CellFailed(outcome.describe() + (f": {last}" if last else ""), outcome=outcome)
    return Result(container, outcome, b"".join(out), b"".join(err))


def _signature() -> inspect.Signature:
    """Return the signature of `run` with the options' names, for `help` and for completion in notebooks."""
    found = inspect.signature(run)
    kept = [one for one in found.parameters.values() if one.kind is not one.VAR_KEYWORD]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in RunKeywords.__annotations__.items()
    ]
    return found.replace(parameters=[*kept, *added])


run.__signature__ = _signature()  # type: ignore[attr-defined]


def create(image: str, name: str, *, engine: Engine | None = None) -> Container:
    """Return a new, named container for `run(name=…)`. Raises `ContainerExists`, `ImageNotFound`."""
    used = engine or default_engine()
    return containers.create(used, used.images.find(image), name)


def get(name: str, *, engine: Engine | None = None) -> Container:
    """Return the container of that name. Raises `ContainerNotFound`."""
    return containers.get(engine or default_engine(), name)


def commit(
    container: Container,
    image: str,
    *,
    output: str | Path | None = None,
    message: str = "",
    changes: Sequence[str] = (),
    force: bool = False,
) -> Image:
    """Return a new image of what the container's cells left. `output` (host path) gets a tar of its merged tree.

    Raises `ContainerIncomplete` if changes of a cell are lost, unless `force` is true.
    """
    made = committing.commit(container, image, message=message, changes=strings("changes", changes), force=force)
    if output is not None:
        record = container.record
        with held(container.workspace, container.name, record.image_digest, record.layers):
            committing.export(container.workspace, record.layers, host_path(str(output)))
    return made
