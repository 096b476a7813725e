"""The result of a run: facts that travel between processes, shown as one line or as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbcontainer.containers.container import Container
from nbcontainer.errors import CellFailed
from nbcontainer.outcome import Outcome
from nbcontainer.rendering.text import one_line, visible
from nbcontainer.sandbox.explanation import Explanation

_SHOWN = 120
"""Characters of a failure in a `repr`: a line of standard error can be a whole document."""


@dataclass(frozen=True)
class Result:
    """A run that has ended. `stdout` and `stderr` are empty if they went to a callback.

    `values` has what the run left in `/out`, by the names of `get`. Of an item of `map`, `index` is the position of its
    input, `value` what its function returned, `files` has the bytes of its files by their path, and `attempts` is the
    number of times that it was started. `returned` is `value` without a check: None if the function failed. With
    `explain=True`, `explanation` has the steps that were done for the run, each with its `name`, its system calls
    (`texts`) and its time; as text it is all system calls. A result can be pickled; its container can then be looked
    at, but not used. Two results are equal if all but `values`, `returned` and `explanation` is.

    >>> result = run("busybox", script="echo done; echo 42 > /out/answer.json", get=["answer"])
    >>> result.text, result.values["answer"], result.exit_code
    ('done\\n', 42, 0)
    """

    container: Container
    outcome: Outcome
    stdout: bytes
    stderr: bytes
    values: Mapping[str, Any] = field(default_factory=dict, compare=False)  # == of arrays is an array
    returned: Any = field(default=None, compare=False)
    files: Mapping[str, bytes] = field(default_factory=dict)
    index: int = 0
    attempts: int = 1
    explanation: Explanation | None = field(default=None, compare=False)

    def __hash__(self) -> int:
        return hash((self.container.name, self.index, self.stdout, self.stderr))

    def __repr__(self) -> str:
        again = f", {self.attempts} attempts" if self.attempts > 1 else ""
        sizes = f"{len(self.stdout)} + {len(self.stderr)} bytes"
        ended = self.outcome.describe() if self.ok else visible(one_line(_reason(self.outcome, self.stderr), _SHOWN))
        return f"<Result: {ended}{again}, {sizes}, {self.container!r}>"

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

    @property
    def value(self) -> Any:
        """What the function of an item of `map` returned. Raises `CellFailed` if the item failed.

        >>> good, bad = map("host", lambda divisor: 10 // divisor, [5, 0])
        >>> good.value
        2
        >>> try:
        ...     bad.value
        ... except CellFailed as error:
        ...     print(error.message)
        exit code 1: ZeroDivisionError: integer division or modulo by zero
        """
        self.check_returncode()
        return self.returned

    @property
    def ok(self) -> bool:
        """Whether the run ended by itself with exit code 0."""
        return self.outcome.ok

    @property
    def exit_code(self) -> int:
        """The shell's exit code: 128 plus the signal if there was one."""
        return self.outcome.exit_code

    @property
    def returncode(self) -> int:
        """The exit code, by the name that it has in subprocess."""
        return self.outcome.exit_code

    def check_returncode(self) -> None:
        """Raise `CellFailed` if the run failed (subprocess.CompletedProcess.check_returncode).

        >>> result = run("busybox", ["false"], check=False)
        >>> try:
        ...     result.check_returncode()
        ... except CellFailed as error:
        ...     print(error.outcome.exit_code)
        1
        """
        if not self.ok:
            raise failure(self.outcome, self.stdout, self.stderr)


def failure(outcome: Outcome, stdout: bytes = b"", stderr: bytes = b"") -> CellFailed:
    """Return the error of a run that failed, with the last line of its standard error."""
    return CellFailed(_reason(outcome, stderr), outcome=outcome, stdout=stdout, stderr=stderr)


def _reason(outcome: Outcome, stderr: bytes) -> str:
    """Return how a run ended, and the last line of its standard error."""
    last = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return outcome.describe() + (f": {last}" if last else "")
