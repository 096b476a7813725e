"""The values of one cell: written to `/in` before it starts, read from `/out` when it has ended well."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import UsageError, ValueUnavailable
from nbcontainer.rendering.text import plain
from nbcontainer.sandbox.spec import Values
from nbcontainer.sandbox.steps.exchange.values import INPUT, OUTPUT
from nbcontainer.values import received
from nbcontainer.values.codec import MissingPackage
from nbcontainer.values.registry import codec_for
from nbcontainer.values.spent_memory import SPENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nbcontainer.values.codec import Codec

INPUTS_LIMIT = 200
"""Values of one cell: their descriptors travel in one message (`nbcontainer.sandbox.protocol`)."""

VARIABLE_LIMIT = 4096
"""Characters of a text that is also an environment variable."""

VARIABLES_LIMIT = 128 << 10
"""Bytes of all these variables: a program starts with 2 MiB of arguments and variables at most (execve(2))."""

_NAME_LIMIT = 255  # bytes, as in the kernel

_NEVER = ("PATH", "HOME", "IFS")


@dataclass(frozen=True)
class Input:
    """A value that the cell gets as a file."""

    name: str
    value: Any
    codec: Codec

    @property
    def file(self) -> str:
        """The name of its file in `/in`."""
        return f"{self.name}.{self.codec.suffix}"

    @property
    def variable(self) -> str | None:
        """The value as NAME=value for the environment: a short text or a number; None for anything else."""
        value, name = self.value, self.name
        if name in _NEVER or name.startswith("LD_") or not name.isascii() or isinstance(value, bool):
            return None
        try:
            text = plain(value)
        except (TypeError, ValueError):  # another type; an integer of more than 4300 digits
            return None
        return f"{name}={text}" if len(text) <= VARIABLE_LIMIT and "\0" not in text else None


class Exchange:
    """What one cell gets and returns.

    `values` is what the sandbox prepares. The caller passes `send` to the cell's `Streams`, reads with `get` and
    `files` when the cell has ended well, and closes the exchange, which is also a context manager.
    """

    def __init__(self, inputs: Mapping[str, Any], *, output: bool) -> None:
        """Find a codec for each value. Raises `UsageError`."""
        if len(inputs) > INPUTS_LIMIT:
            hint = "pass them as one dictionary"
            raise UsageError(f"too many values: {len(inputs)} (at most {INPUTS_LIMIT})", hint=hint)
        self.inputs = [Input(name, value, codec_for(name, value)) for name, value in inputs.items()]
        for one in self.inputs:
            if _bytes(one.file) > _NAME_LIMIT:
                problem = f"the name {one.name[:40]}... is too long for a file in {INPUT} (at most {_NAME_LIMIT} bytes)"
                raise UsageError(problem, hint="pass the value under a shorter name, as in `--in short=NAME`")
        self.values = Values(tuple(one.file for one in self.inputs), output)
        self.directory: int | None = None
        """A descriptor of `/out`, once the container has it."""
        self.shared = True
        """Whether another container can hold a file of `/out`, and change it while it is read: it is copied first."""
        self.trusted = True
        """Whether the files of `/out` may be shown as they are, if the user asks for that: not those of an import."""
        self.later: Callable[[Callable[[], object]], object] = lambda task: task()
        """Runs a task after the cell, which does not wait for it: here, the release of the memory of `/in`."""
        self._held: list[int] = []
        self._hashed: list[int] = []
        self._remove: Callable[[], None] | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """The values that are also environment variables, as NAME=value: the first ones that have little in all."""
        found, left = [], VARIABLES_LIMIT
        for one in self.inputs:
            if (text := one.variable) is not None and (size := _bytes(text)) <= left:
                found.append(text)
                left -= size
        return tuple(found)

    def check(self, targets: Iterable[str]) -> None:
        """Raise `UsageError` if a mount has one of the targets `/in` and `/out`, or one below them.

        That would be hidden, and what the cell writes there would be lost.
        """
        for target in sorted(targets):
            top = next((top for top in (INPUT, OUTPUT) if target == top or target.startswith(f"{top}/")), None)
            if top is not None:
                problem = f"{top} holds the values of --in, --get and --show: no mount can be at {target}"
                raise UsageError(problem, hint="choose another target")

    def send(self, files: Sequence[int]) -> None:
        """Write the values to the descriptors of the files of `/in`, and keep the one of `/out`. Closes the others.

        Raises `UsageError` for a value that its codec cannot write, `ValueUnavailable` if there is no memory.
        """
        waiting = list(files)
        SPENT.free()
        try:
            if self.inputs:  # the mount lives as long as one of its files is open, and its end is the memory's
                with contextlib.suppress(OSError):  # without a free descriptor, the cell waits for that
                    self._held.append(os.dup(waiting[0]))
            for number, one in enumerate(self.inputs):
                with os.fdopen(waiting.pop(0), "wb") as file, _problems(one):
                    if self._hashed:
                        _copy(self._hashed[number], file.fileno())
                    else:
                        one.codec.write(one.value, file)
                    file.flush()
            if self.values.output:
                self.directory = waiting.pop(0)
        finally:
            for fd in waiting:
                os.close(fd)
            self._forget_hashed()

    def replay(self, directory: int, remove: Callable[[], None], *, trusted: bool) -> None:
        """Take the kept files of a cached cell as those of `/out`; `close` calls `remove`."""
        self.close()
        self.directory, self._remove, self.trusted, self.shared = directory, remove, trusted, False

    def digest(self) -> str:
        """Return a digest of the names and contents of the files of `/in`. Raises as `send` does.

        The files stay in memory until `send`, which sends these, or `close`.
        """
        self._forget_hashed()
        total = hashlib.sha256()
        for one in self.inputs:
            with _problems(one):
                self._hashed.append(os.memfd_create("value", os.MFD_CLOEXEC))
                with os.fdopen(self._hashed[-1], "w+b", closefd=False) as file:
                    one.codec.write(one.value, file)
                    file.seek(0)
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{one.file}\0{content}\0".encode())
        return total.hexdigest()

    def _forget_hashed(self) -> None:
        while self._hashed:
            os.close(self._hashed.pop())

    def get(self, wanted: Mapping[str, str], limit: int = received.SIZE_LIMIT) -> dict[str, Any]:
        """Return the values for these variables. `wanted` names the file of each in `/out`, or is empty: `NAME.*`.

        Raises `ValueUnavailable`: then there is no value at all.
        """
        if not wanted:
            return {}
        directory = self._opened()
        found = {name: path or received.find(directory, name) for name, path in wanted.items()}
        return {name: received.read(directory, path, limit, copied=self.shared) for name, path in found.items()}

    def raw(self, name: str, limit: int) -> tuple[str, bytes]:
        """Return suffix and bytes (at most `limit`) of the one file `/out/NAME.*`. Raises `ValueUnavailable`."""
        found = received.find(self._opened(), name)
        with received.open_file(self._opened(), found, limit) as file:
            return found.partition(".")[2], file.read(limit)

    def files_at(self, path: str, limit: int) -> dict[str, bytes]:
        """Return a file in `/out`, or all regular files below a directory there, by their paths in the container.

        They have at most `limit` bytes together. Raises `ValueUnavailable`, `UsageError`.
        """
        below = path.rstrip("/")
        name = "." if below == OUTPUT else path_in_output(below, "files")
        return {f"{below}{rest}": data for rest, data in received.read_tree(self._opened(), name, limit)}

    def _opened(self) -> int:
        if self.directory is None:
            raise ValueUnavailable("the cell has no /out", hint="run it again")
        return self.directory

    def files(self) -> list[str]:
        """Return the names in `/out`, sorted. Raises `ValueUnavailable`."""
        return sorted(received.names(self._opened()))

    def close(self) -> None:
        """Close the descriptor of `/out`; its memory is free then, and that of `/in` is `later`. Idempotent."""
        self._forget_hashed()
        held, self._held = self._held, []
        if held:
            SPENT.add(held)
            self.later(SPENT.free)
        directory, self.directory = self.directory, None
        remove, self._remove = self._remove, None
        if directory is not None:
            os.close(directory)
        if remove is not None:
            remove()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def path_in_output(path: str, asked: str) -> str:
    """Return the path of a file in `/out`, relative to it. `asked` is what the user wrote. Raises `UsageError`."""
    below = path.removeprefix(f"{OUTPUT}/") if path.startswith("/") else path
    parts = below.split("/")
    if not below or below.startswith("/") or "\0" in below or any(part in ("", ".", "..") for part in parts):
        hint = "write the path of a file in /out, as in /out/result.parquet"
        raise UsageError(f"{asked}: '{path}' is not a file in /out", hint=hint)
    return below


def _copy(source: int, target: int) -> None:
    """Copy a file to another one. Raises `OSError`."""
    done = 0
    while sent := os.sendfile(target, source, done, 1 << 30):
        done += sent


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@contextlib.contextmanager
def _problems(one: Input) -> Iterator[None]:
    """Turn what a codec raises into one line about its value."""
    path = f"{INPUT}/{one.file}"
    try:
        yield
    except MissingPackage as error:
        raise UsageError(f"cannot write {path}: {error}", hint=error.hint) from None
    except (OSError, MemoryError) as error:
        detail = getattr(error, "strerror", None) or "not enough memory"
        raise ValueUnavailable(f"cannot write {path}: {detail}", hint="pass less, or use a volume (-v)") from error
    except Exception as error:  # the value's own methods, and those of its package, may raise anything
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(f"cannot pass {one.name} as {path}: {detail}", hint="pass another form of it") from error
