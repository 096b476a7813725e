"""`--show`: MIME bundles of the files that a cell left in `/out`."""

from __future__ import annotations

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
_ROWS, _COLUMNS = 60, 20
_LABEL = 50
"""Characters of a label and of a text in a table."""

_CHARACTERS = 1 << 20
"""Characters of a table as text."""


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
    """Return a bundle with the first and last rows and columns of a table."""
    if isinstance(value, str):  # CSV without pandas
        return {inert.TEXT: _begin(value)}
    if not hasattr(value, "to_html"):  # pyarrow without pandas
        return {inert.TEXT: _begin(str(value.slice(0, _ROWS)))}
    rows, columns = value.shape
    note = "" if rows <= _ROWS and columns <= _COLUMNS else f"<p>{rows} rows, {columns} columns</p>"
    part = value.iloc[_ends(rows, _ROWS), _ends(columns, _COLUMNS)]
    part.index, part.columns = _short(part.index), _short(part.columns)
    table = part.to_html(max_rows=_ROWS, max_cols=_COLUMNS, escape=True, notebook=True)
    text = part.to_string(max_rows=_ROWS, max_cols=_COLUMNS, max_colwidth=_LABEL)
    return {inert.HTML: markup.made_inert(markup.HTML, table) + note, inert.TEXT: _begin(text)}


def _ends(length: int, shown: int) -> list[int]:
    """Return the places of the first and last rows or columns, with some more: pandas then shows that some lack."""
    half = shown // 2 + 1
    return list(range(length)) if length <= 2 * half else [*range(half), *range(length - half, length)]


def _short(labels: Any) -> Any:
    """Return the labels of rows or columns (`pandas.Index`) with the beginnings of long texts and names."""

    def cut(label: Any) -> Any:
        if isinstance(label, tuple):
            return tuple(map(cut, label))
        return f"{label[:_LABEL]}..." if isinstance(label, str) and len(label) > _LABEL else label

    found = labels.map(cut) if len(labels) else labels
    return found.set_names([cut(name) for name in labels.names])


def _begin(text: str) -> str:
    """Return the beginning of a text that is shown in place of a table."""
    more = len(text) - _CHARACTERS
    return text if more <= 0 else f"{text[:_CHARACTERS]}\n... and {more} characters more"
