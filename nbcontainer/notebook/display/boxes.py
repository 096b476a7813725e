"""Displays apart from the output of cells: hints, and whatever else is a line of its own."""

from __future__ import annotations

import html
import re
import sys
from typing import Any

from nbcontainer.rendering import page

_CODE = re.compile(r"`([^`]+)`")


def hint_box(text: str) -> dict[str, str]:
    """Return the text and the HTML of a hint, by type (jupyter-client.readthedocs.io, "display_data")."""
    shown = _CODE.sub(r"<code>\1</code>", html.escape(text))
    return {"text/plain": f"hint: {text}", "text/html": page.line(f"<small>hint: {shown}</small>")}


def show(shell: Any, box: dict[str, str]) -> None:
    """Show a text and its HTML: as a display of its own in a notebook, as a line on the terminal elsewhere."""
    from IPython.core.displaypub import DisplayPublisher

    publisher = shell.display_pub
    if type(publisher) is not DisplayPublisher:
        publisher.publish(box)
    elif sys.stderr.isatty():  # this publisher would write to standard output
        print(box["text/plain"], file=sys.stderr)
