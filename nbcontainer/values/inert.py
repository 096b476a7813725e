"""Data from a container, made inert: what a notebook shows of it can run no script and load nothing from elsewhere.

HTML and Markdown pass the allow-list sanitizer nh3. SVG becomes an `<img>`, in which browsers run no scripts and load
nothing (SVG Integration, "secure static mode"). Text, JSON, LaTeX and pictures are as they are. All other types are
refused.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from nbcontainer.oci import untrusted_json
from nbcontainer.values import markup

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "text/plain"
HTML = "text/html"
MARKDOWN = "text/markdown"
LATEX = "text/latex"
JSON = "application/json"
SVG = "image/svg+xml"

BUNDLE = "application/vnd.nbcontainer.bundle+json"
"""One thing in several forms, as Python cells send it: a JSON object of types and their data in Base64."""

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""The types of pictures, which a page decodes and does not run."""

_DEPTH = 200
"""Levels of JSON: a message must be written, and read by every frontend."""


class Refused(ValueError):
    """Data of a type that is not shown, because it is not inert."""


def bundle(mime: str, data: bytes, *, trust: bool = False) -> dict[str, Any]:
    """Return a MIME bundle that shows data of this type: inert, or as it is if the container is trusted.

    Raises `ValueError` for data that is not what its type says, and without `trust` `Refused` for a type that is not
    inert.
    """
    plain = f"<{mime}, {len(data)} bytes>"
    if mime == BUNDLE:
        return _forms(data, trust=trust)
    if mime == JSON or (trust and mime.endswith("+json")):
        return {TEXT: plain, mime: _parsed(data)}
    if mime in PICTURES:
        return {TEXT: plain, mime: base64.b64encode(data).decode()}
    if mime in (TEXT, LATEX):
        return {TEXT: _text(data), mime: _text(data)}
    if trust:
        return _as_it_is(mime, data, plain)
    if (convert := _CONVERT.get(mime)) is None:
        raise Refused(
            f"{mime or 'data without a type'} is not shown: it could run code in the page; use --trust-output"
        )
    return convert(_text(data))


def _forms(data: bytes, *, trust: bool) -> dict[str, Any]:
    """Return the forms that can be shown, together; the text is the one that was sent as text.

    Raises the error of the last form if none can be shown.
    """
    parts = _parsed(data)
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise ValueError("it is not an object of types and their data")
    if BUNDLE in parts:
        raise ValueError("it is nested")
    shown: dict[str, Any] = {}
    error: ValueError = ValueError("it has no form")
    for mime in sorted(parts, key=lambda mime: mime == TEXT):
        try:
            shown |= bundle(mime, base64.b64decode(parts[mime], validate=True), trust=trust)
        except ValueError as refused:
            error = refused
    if not shown:
        raise error
    return shown


def _as_it_is(mime: str, data: bytes, plain: str) -> dict[str, Any]:
    if mime == MARKDOWN:
        return {TEXT: _text(data), mime: _text(data)}
    if mime.startswith("text/") or mime.endswith("+xml") or mime in ("application/javascript", "application/xml"):
        return {TEXT: plain, mime: _text(data)}
    return {TEXT: plain, mime: base64.b64encode(data).decode()}


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text, at byte {error.start}") from None


def _parsed(data: bytes) -> Any:
    try:
        found = json.loads(data, parse_constant=untrusted_json.refuse)
        depth = untrusted_json.nested(found, _DEPTH)
    except RecursionError:
        depth = _DEPTH + 1
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if depth > _DEPTH:
        raise ValueError(f"it is nested deeper than {_DEPTH} levels")
    _check_message(found)
    return found


def _check_message(found: Any) -> None:
    """Raise `ValueError` for what no message to a frontend can hold (jupyter_client.session.json_packer)."""
    try:
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("one of its texts has a lone surrogate") from None
    except ValueError:
        raise ValueError("one of its numbers is too large") from None


def _html(text: str) -> dict[str, Any]:
    return {TEXT: "<HTML>", HTML: markup.made_inert(markup.HTML, text)}


_HARMLESS = re.compile(r"[^<&\[\]]*")
"""Markdown without markup of HTML, links and pictures."""


def _markdown(text: str) -> dict[str, Any]:
    """Render it here.

    For frontends that show Markdown alone, there is the text itself if it is harmless, else the sanitized HTML, in
    which no text can be a link.
    """
    html = markup.made_inert(markup.MARKDOWN, text)
    return {TEXT: text, MARKDOWN: text if _HARMLESS.fullmatch(text) else html.replace("[", "&#91;"), HTML: html}


def _svg(text: str) -> dict[str, Any]:
    source = base64.b64encode(text.encode()).decode()
    return {TEXT: "<SVG picture>", HTML: f'<img src="data:{SVG};base64,{source}" alt="SVG picture">'}


_CONVERT: dict[str, Callable[[str], dict[str, Any]]] = {HTML: _html, MARKDOWN: _markdown, SVG: _svg}
"""By the types that are not inert by themselves: the function that makes their text inert."""
