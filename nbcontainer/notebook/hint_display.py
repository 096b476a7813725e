"""Shows hints apart from the output of cells."""

from __future__ import annotations

import html
import re
import sys
from typing import Any

_CODE = re.compile(r"`([^`]+)`")


def bundle(text: str) -> dict[str, str]:
    """Return the text and the HTML of a hint, by type (jupyter-client.readthedocs.io, "display_data")."""
    page = _CODE.sub(r"<code>\1</code>", html.escape(text))
    return {"text/plain": f"hint: {text}", "text/html": f"<div><small>hint: {page}</small></div>"}


def show(shell: Any, text: str) -> None:
    """Show a hint in IPython: as a display of its own in a notebook, as a line on the terminal elsewhere."""
    from IPython.core.displaypub import DisplayPublisher

    publisher = shell.display_pub
    if type(publisher) is not DisplayPublisher:
        publisher.publish(bundle(text))
    elif sys.stderr.isatty():  # this publisher would write to standard output
        print(f"hint: {text}", file=sys.stderr)
