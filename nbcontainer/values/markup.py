"""HTML and Markdown of a container, made inert.

`made_inert` does it in another process for a text that may take long: parsing is quadratic in the depth of tags, a
short text can become a long one, and no signal interrupts the sanitizer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

HTML, MARKDOWN = "html", "markdown"
"""The kinds of text."""

_SMALL = {HTML: 64 << 10, MARKDOWN: 8 << 10}
"""Characters of a text that is converted in this process."""

_TAGS = 1000
"""Tags of a text that is converted in this process: the worst such text takes 0.2 s."""

_SECONDS, _PATIENCE = 5, 60
"""Processor time of the other process, and the time in all."""

_MEMORY = 2 << 30
"""Bytes of address space of the other process."""

_FACTOR, _MORE = 8, 4 << 20
"""A result has at most so many times the characters of its text, and some more."""

_PACKAGES = ("nbcontainer", "nh3", "markdown_it", "mdurl")
_BOOT = "import sys; sys.path += sys.argv[3:]; from nbcontainer.values.markup import main; main(*sys.argv[1:])"


def made_inert(kind: str, text: str) -> str:
    """Return inert HTML for a text. Raises `ValueError` for one that takes too much time or memory."""
    if len(text) <= _SMALL[kind] and text.count("<") <= _TAGS:
        return _sanitized(text) if kind == HTML else made_inert(HTML, _rendered(text))
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, kind, str(_SECONDS), *_import_path()],
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
            cwd="/",
        )
    except OSError as error:
        raise ValueError(f"cannot start {sys.executable} to make it inert: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        ended = None
    if ended is None or ended.returncode != 0:
        raise ValueError("it takes too much time or memory to make it inert")
    return ended.stdout.decode()


def main(kind: str, seconds: str, *_: str) -> None:
    """Convert standard input, as the other process. It ends with an error if that takes too much."""
    import resource

    limits = {resource.RLIMIT_CPU: int(seconds), resource.RLIMIT_AS: _MEMORY, resource.RLIMIT_CORE: 0}
    for limit, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a lower limit holds already
            resource.setrlimit(limit, (most, most))
    text = sys.stdin.buffer.read().decode()
    found = _sanitized(text if kind == HTML else _rendered(text))
    if len(found) > _FACTOR * len(text) + _MORE:
        sys.exit(1)
    sys.stdout.buffer.write(found.encode())


def _import_path() -> list[str]:
    """Return the directories of the packages that the other process imports."""
    found = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            place = Path(spec.origin).parent
            found.append(str((place.parent if spec.submodule_search_locations else place).resolve()))
    return list(dict.fromkeys(found))


def _rendered(text: str) -> str:
    """Return the HTML of Markdown. The renderer of a page would pass HTML on, and links to scripts."""
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def _sanitized(text: str) -> str:
    """Return HTML without scripts, styles, event handlers, forms and anything that is loaded from elsewhere."""
    import nh3

    attributes = {tag: set(names) - {"style"} for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
    for tag in ("td", "th"):
        attributes.setdefault(tag, set()).update(("colspan", "rowspan"))
    return nh3.clean(
        text,
        tags=set(nh3.ALLOWED_TAGS) | {"figure", "figcaption"},
        attributes=attributes,
        attribute_filter=_filter,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer nofollow",
    )


def _filter(tag: str, name: str, value: str) -> str | None:
    """Return the value of an attribute, None to remove it: a picture is in the data, and a link leads elsewhere."""
    if name in ("src", "srcset", "background", "poster"):
        return value if name == "src" and value.lower().startswith("data:image/") else None
    if name == "href" and value.strip().lower().startswith("data:"):
        return None
    return value
