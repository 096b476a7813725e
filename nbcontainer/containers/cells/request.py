"""A request: what runs, and where, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from nbcontainer.containers.options import RunOptions, StandardInput
from nbcontainer.errors import UsageError

_COMMAND_KEPT = 4000  # characters of a cell in the record, as history shows them


@dataclass(frozen=True)
class Request:
    """One run. `script` is a cell's body, `command` the arguments after the image; with both, the body is its input.

    `kernel` is the run in the kernelspec that it belongs to, as text, empty for a cell. `arguments` are those of a
    script that is a file: `$1` and so on. `notebook` is the file name of the notebook, empty for that of this process.
    `interpreter` is the program that runs the script, with its first arguments; empty for the script's own, or the
    image's shell. `driver` is the text of the program that runs a Python cell. `stdin` is the input; None for what
    `Streams` has.

    Raises `UsageError` if two of them are the input.
    """

    image: str = ""
    name: str = ""
    command: tuple[str, ...] = ()
    script: str | None = None
    remove: bool = False
    options: RunOptions = RunOptions()
    kernel: str = ""
    arguments: tuple[str, ...] = ()
    notebook: str = ""
    interpreter: tuple[str, ...] = ()
    driver: str = ""
    stdin: StandardInput | None = None

    def __post_init__(self) -> None:
        if self.command and self.script is not None and self.stdin is not None:
            hint = "remove one of them"
            raise UsageError("--stdin and the body of the cell are both the input of the command", hint=hint)

    @property
    def as_text(self) -> str:
        """The run as text, for `history` and `ps`."""
        text = " ".join(self.command) if self.command else (self.script or "")
        return text[:_COMMAND_KEPT]

    @property
    def body(self) -> str | None:
        """The script that runs as a file: None if it is the input of a command, or if there is none."""
        return None if self.command else self.script


def encode(text: str) -> bytes:
    """Return a cell's body as it is written to its file. Raises `UsageError` if it is not Unicode text."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        message = f"the cell contains a character that is not Unicode text, at position {error.start}"
        raise UsageError(message, hint="remove it") from None
