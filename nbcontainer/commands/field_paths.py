"""`inspect -f PATH.TO.FIELD`: one value of a document."""

from __future__ import annotations

import json
import re
from typing import Any

from nbcontainer.commands.docker_fields import in_dockers_shape
from nbcontainer.errors import UsageError

_TEMPLATE = re.compile(r"\{\{\s*(json\s+)?\.?([^{}\s]*)\s*\}\}")
_SHOWN = 12  # names in a hint


def rendered(document: Any, path: str) -> str:
    """Return the value at `path` as text.

    The path is `config.Env` or `layers.0`, or as Docker writes it, `{{.Config.Env}}` and `{{json .Config}}`. Text is
    shown as it is, other values as JSON. Upper and lower case may differ. A path that begins with a
    capital, as Docker's do, is looked for in Docker's document first. Raises `UsageError`.
    """
    found = _TEMPLATE.fullmatch(path.strip())
    if found is None and "{{" in path:
        hint = "write one field, as in -f Config.Env or -f '{{.Config.Env}}'"
        raise UsageError(f"unsupported template {path!r} for --format", hint=hint)
    names, as_json = (found[2], bool(found[1])) if found else (path.strip().removeprefix("."), False)
    value = _in_either(document, in_dockers_shape(document), names, path)
    return value if isinstance(value, str) and not as_json else json.dumps(value)


def _in_either(document: Any, dockers: dict[str, Any], names: str, path: str) -> Any:
    """Return the value in Docker's document if the path begins as there, or else in ours; then in the other one."""
    places = (dockers, document) if names.partition(".")[0] in dockers else (document, dockers)
    try:
        return _value(places[0], names, path)
    except UsageError as error:
        try:
            return _value(places[1], names, path)
        except UsageError:
            raise error from None


def _value(document: Any, names: str, path: str) -> Any:
    if not names:
        return document
    parts = names.split(".")
    for count in range(len(parts), 0, -1):  # a label's name has dots
        step = _step(document, ".".join(parts[:count]))
        if step is not None:
            return _value(step[0], ".".join(parts[count:]), path)
    raise UsageError(f"no field {parts[0]!r} for --format {path}", hint=_names(document))


def _step(document: Any, name: str) -> tuple[Any] | None:
    """Return the value of one name, or of a place in a list, in a tuple; None if there is none."""
    if isinstance(document, dict):
        if name in document:
            return (document[name],)
        same = [key for key in document if key.lower() == name.lower()]
        return (document[same[0]],) if len(same) == 1 else None
    if isinstance(document, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(document):
        return (document[int(name[:9])],)
    return None


def _names(document: Any) -> str:
    if isinstance(document, dict) and document:
        return f"the fields are {', '.join(sorted(document)[:_SHOWN])}"
    if isinstance(document, list):
        return f"write a number below {len(document)}" if document else "the list is empty"
    return "the value has no fields: leave the rest out"
