"""`--show`: MIME bundles of the files that a cell left in `/out`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ValueUnavailable
from nbcontainer.sandbox.steps.exchange.values import OUTPUT
from nbcontainer.values import inert, markup, received

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.values.exchange import Exchange

SHOWN_LIMIT = 16 << 20
"""Bytes of one file that is shown."""

MIME = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": inert.SVG,
    "html": inert.HTML,
    "json": inert.JSON,
    "md": inert.MARKDOWN,
    "txt": inert.TEXT,
    "tex": inert.LATEX,
    "js": "application/javascript",
}
"""By the suffix of a file: the type of its data."""

TABLES = ("csv", "parquet", "arrow")
_ROWS = 60


def bundles(exchange: Exchange, *, trust: bool) -> Iterator[dict[str, Any] | str]:
    """Yield a MIME bundle for each file of `/out` that can be shown, by name; a line of text for one that cannot.

    Without `trust`, all data is inert, and that of an imported result in any case. Raises `ValueUnavailable`.
    """
    directory, trust = exchange.directory, trust and exchange.trusted
    for name in exchange.files():
        suffix = name.rpartition(".")[2].lower() if "." in name else ""
        if directory is None or (suffix not in MIME and suffix not in TABLES):
            continue
        try:
            if suffix in TABLES:
                yield _table(received.read(directory, name, copied=exchange.shared))
            else:
                yield _data(directory, name, MIME[suffix], trust=trust)
        except ValueUnavailable as error:
            yield str(error)
        except inert.Refused as error:
            yield f"{OUTPUT}/{received.shown(name)}: {error}"
        except ValueError as error:
            yield f"{OUTPUT}/{received.shown(name)} is not valid {MIME.get(suffix, suffix)}: {error}"


def _data(directory: int, name: str, mime: str, *, trust: bool) -> dict[str, Any]:
    with received.open_file(directory, name, SHOWN_LIMIT) as file:
        data = file.read(SHOWN_LIMIT)
    return inert.bundle(mime, data, trust=trust)


def _table(value: Any) -> dict[str, Any]:
    if isinstance(value, str):  # CSV without pandas
        return {inert.TEXT: value[:SHOWN_LIMIT]}
    if not hasattr(value, "to_html"):  # pyarrow without pandas
        return {inert.TEXT: str(value.slice(0, _ROWS))}
    note = "" if len(value) <= _ROWS else f"<p>{html.escape(f'{len(value)} rows')}</p>"
    table = value.to_html(max_rows=_ROWS, escape=True, notebook=True)
    return {inert.HTML: markup.made_inert(markup.HTML, table) + note, inert.TEXT: value.to_string(max_rows=_ROWS)}
