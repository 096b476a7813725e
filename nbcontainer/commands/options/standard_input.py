"""`--stdin`: from an argument to what a run reads."""

from __future__ import annotations

import os

from nbcontainer.containers.options import StandardInput
from nbcontainer.errors import UsageError
from nbcontainer.oci.reference import host_path

_FILE = "@"


def parse_stdin(text: str) -> StandardInput:
    """Return the input of `TEXT`, of `@FILE` (host path), or of `@@TEXT`, which is a text that begins with one @.

    A text ends with a new line, as programs that read lines expect. A file is checked now, and opened again for the
    run. Raises `UsageError`.
    """
    if text.startswith(_FILE) and not text.startswith(_FILE * 2):
        return _of_file(text[1:])
    text = text.removeprefix(_FILE) if text.startswith(_FILE) else text
    try:
        data = text.encode(errors="surrogateescape")  # an argument of a terminal can have any bytes
    except UnicodeEncodeError:
        raise UsageError("the text of --stdin has characters that are not Unicode", hint="use --stdin @FILE") from None
    return StandardInput(data + (b"" if text.endswith("\n") else b"\n"))


def _of_file(name: str) -> StandardInput:
    try:
        found = StandardInput(path=host_path(name))
    except UsageError as error:
        raise UsageError(f"--stdin @: {error.message}", hint=error.hint) from None
    os.close(found.open(None))
    return found
