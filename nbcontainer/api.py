"""The Python API: `nbcontainer.run("busybox", ["ls"], volumes=["~/data:/data:ro"])`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, cast

from nbcontainer.commands.options.run_option import string
from nbcontainer.commands.options.table import RunKeywords
from nbcontainer.containers import container as base
from nbcontainer.containers import lookup
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.oci.documents import Image
from nbcontainer.runs.asynchronous import finished
from nbcontainer.runs.calls import Call, Data, image_word, request_in
from nbcontainer.runs.output_stream import OutputStream
from nbcontainer.runs.public_container import Container, run_fresh
from nbcontainer.runs.results import Result
from nbcontainer.runs.signatures import check_options, takes_options

__all__ = ["Container", "Result", "commit", "create", "get", "list_containers", "run", "run_async", "stream"]


@takes_options(RunKeywords)
def run(
    image: str | Image = "",
    command: Sequence[str] = (),
    *,
    script: str | None = None,
    input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
    inputs: Mapping[str, Any] | None = None,
    get: Sequence[str] | Mapping[str, str] = (),
    check: bool = True,
    stdout: Callable[[bytes], None] | None = None,
    stderr: Callable[[bytes], None] | None = None,
    engine: Engine | None = None,
    **options: Unpack[RunKeywords],
) -> Result:
    """Run `command` in a container of `image`, or `script` by its shell; with both, `script` is the standard input.

    `input` is the standard input. `inputs` are values that the run finds as files in `/in`, and `get` names the values
    to read from `/out`, as in docs/values.md: names, or a mapping of names to paths there. `stdout` and `stderr` are
    called with each piece of output (bytes) as it comes, in the thread that calls `run`; the result has no output
    then. `engine` is the store and the warm pool to use, by default those of this process (NBCONTAINER_HOME).

    The options are those of `%%container` (docs/reference-options.md): `volumes` as SRC:DST[:ro] strings or a
    {SRC: DST[:ro]} mapping, `publish` as [IP:]HOST:PORT[/udp] strings, `timeout` in seconds, `memory` and other sizes
    as in "512m", `ulimits` as in {"nofile": "1024:4096"}, `env` as a mapping or as NAME=value strings; a name without a
    value, or with None, is as for `-e`: the variable of this process, or removed if it has none. With `name` it runs in
    that container. Raises `CellFailed` if the run fails, unless `check` is false, `TypeError` for an unknown option or
    a value of a wrong type, and the package's other errors.

    >>> run("busybox", ["tr", "a-z", "A-Z"], input="hello").text
    'HELLO'
    >>> script = "wc -l < /in/rows.txt > /out/count.json"
    >>> run("busybox", script=script, inputs={"rows": "a\\nb\\n"}, get=["count"]).values
    {'count': 2}
    """
    check_options(run, options)
    data = Data(input, {} if inputs is None else inputs, get)
    request = request_in(image_word(image), command, script, data, options)
    return Call(request, data, engine=engine, stdout=stdout, stderr=stderr, runner=run_fresh).result(check=check)


@takes_options(RunKeywords)
async def run_async(
    image: str | Image = "",
    command: Sequence[str] = (),
    *,
    script: str | None = None,
    input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
    inputs: Mapping[str, Any] | None = None,
    get: Sequence[str] | Mapping[str, str] = (),
    check: bool = True,
    stdout: Callable[[bytes], None] | None = None,
    stderr: Callable[[bytes], None] | None = None,
    engine: Engine | None = None,
    **options: Unpack[RunKeywords],
) -> Result:
    """Run as `run` does, without blocking the event loop. A cancellation ends the container.

    `stdout` and `stderr` are called in another thread.

    >>> async def both():
    ...     runs = (run_async("busybox", ["echo", word]) for word in ("one", "two"))
    ...     return [result.text for result in await asyncio.gather(*runs)]
    >>> asyncio.run(both())
    ['one\\n', 'two\\n']
    """
    check_options(run_async, options)
    data = Data(input, {} if inputs is None else inputs, get)
    request = request_in(image_word(image), command, script, data, options)
    call = Call(request, data, engine=engine, stdout=stdout, stderr=stderr, runner=run_fresh)
    return await finished(call, check=check)


@takes_options(RunKeywords)
def stream(
    image: str | Image = "",
    command: Sequence[str] = (),
    *,
    script: str | None = None,
    input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
    inputs: Mapping[str, Any] | None = None,
    get: Sequence[str] | Mapping[str, str] = (),
    check: bool = True,
    engine: Engine | None = None,
    **options: Unpack[RunKeywords],
) -> OutputStream:
    """Run as `run` does, and return an iterator of output events at once. Its `close` ends the container.

    An event has `stream` ("stdout" or "stderr"), `data` (bytes) and `text`. After the last one, `result` is the result.

    >>> events = stream("busybox", script="echo one; sleep 0.1; echo two")
    >>> "".join(event.text for event in events)
    'one\\ntwo\\n'
    >>> events.result.exit_code
    0
    """
    check_options(stream, options)
    data = Data(input, {} if inputs is None else inputs, get)
    request = request_in(image_word(image), command, script, data, options)
    return OutputStream(
        lambda out, err: Call(request, data, engine=engine, stdout=out, stderr=err, runner=run_fresh),
        check=check,
    )


def create(image: str | Image, name: str = "", *, engine: Engine | None = None) -> Container:
    """Return a new container: a named one, which stays until it is removed, or an anonymous one of this process.

    Raises `ContainerExists`, `ImageNotFound`.

    >>> with create("busybox") as box:
    ...     box.run(["hostname"]).text.strip() == box.name
    True
    """
    used = engine or default_engine()
    if string("name", name):
        lookup.check_new(used, name)  # before an image is pulled
    found = used.images.find(image_word(image))
    if not name:
        return cast("Container", lookup.create_anonymous(used, found, kind=Container))
    return cast("Container", lookup.create(used, found, name, kind=Container))


def get(name: str, *, engine: Engine | None = None) -> Container:
    """Return the container of that name. Raises `ContainerNotFound`.

    >>> made = create("busybox", "dev")
    >>> get("dev").record.image
    'busybox'
    >>> get("dev").remove()
    """
    return cast("Container", lookup.get(engine or default_engine(), string("name", name), Container))


def list_containers(*, engine: Engine | None = None) -> list[Container]:
    """Return the named containers of the store, by name; those whose record cannot be read are left out.

    >>> made = create("busybox", "dev")
    >>> [container.name for container in list_containers()]
    ['dev']
    >>> made.remove()
    """
    found, _ = lookup.list_all(engine or default_engine())
    return [Container(one.workspace, one.record) for one in found if not one.anonymous]


def commit(
    container: base.Container,
    image: str,
    *,
    output: str | Path | None = None,
    message: str = "",
    changes: Sequence[str] = (),
    force: bool = False,
) -> Image:
    """Return a new image of what the container's cells left: see `Container.commit`.

    >>> with create("busybox") as box:
    ...     result = box.run(["touch", "/new"])
    ...     commit(box, "mine").name
    'mine'
    >>> remove_image("mine")
    """
    if not isinstance(container, base.Container):
        hint = "nbcontainer.get(name) returns the one of a name"
        raise TypeError(f"container must be a Container, not {type(container).__name__}: {hint}")
    owner = container if isinstance(container, Container) else Container(container.workspace, container.record)
    return owner.commit(image, output=output, message=message, changes=changes, force=force)
