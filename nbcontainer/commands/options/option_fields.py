"""The fields of `RunOptions` and `Request` that the options of a run set: from arguments, or from Python's keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.commands.options import limits, untrusted
from nbcontainer.commands.options.capabilities import chosen
from nbcontainer.commands.options.identity import read_identity
from nbcontainer.commands.options.mount_option import mounts
from nbcontainer.commands.options.security import new_privileges
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.commands.options.variables import variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbcontainer.commands.grammar import Words

_BY_NAME = {option.name: option for option in RUN_OPTIONS}
_BY_KEYWORD = {option.keyword: option for option in RUN_OPTIONS}

_COMBINED: dict[str, Callable[..., Any]] = {
    "env": variables,
    "capabilities": chosen,
    "new_privileges": new_privileges,
    "cgroup_limits": limits.group_limits,
    "mounts": mounts,
    "identity": read_identity,
}
"""By a field that several options set: the function that makes its value of theirs, by their keywords.

The one for mounts makes several fields.
"""


def fields_of_words(words: Words) -> dict[str, Any]:
    """Return the values of the options of parsed arguments, by field. Raises `UsageError`, `ContainerError`."""
    if not words.options:
        return {}
    found = ((_BY_NAME[name], texts) for name, texts in words.options.items() if name in _BY_NAME)
    return _combined({option.keyword: option.of_words(texts) for option, texts in found})


def fields_of_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a Python caller's keywords, by field; None is as if the keyword were not there.

    Raises `TypeError` for an unknown keyword and a wrong type, `UsageError`, `ContainerError`.
    """
    for keyword in keywords:
        if keyword not in _BY_KEYWORD:
            raise TypeError(f"run() got an unexpected keyword argument '{keyword}'")
    given = {keyword: value for keyword, value in keywords.items() if value is not None}
    return _combined({keyword: _BY_KEYWORD[keyword].of_keyword(value) for keyword, value in given.items()})


def _combined(values: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if values.get("untrusted"):
        values, fields = untrusted.settings(values), {"image_volumes": False}
    parts: dict[str, dict[str, Any]] = {}
    for keyword, value in values.items():
        field = _BY_KEYWORD[keyword].field
        if field in _COMBINED:
            parts.setdefault(field, {})[keyword] = value
        elif field:
            fields[field] = value
    for field, part in parts.items():
        value = _COMBINED[field](**part)
        fields |= value if field == "mounts" else {field: value}
    if links := tuple(link for file in values.get("env_file", ()) for link in file.links):
        fields["links"] = links
    return fields
