"""The signatures of functions that take the options of a run as keywords, and the error for another keyword."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from nbcontainer.commands.options.table import ContainerKeywords, RunKeywords

Function = TypeVar("Function", bound=Callable[..., Any])

_SAME = {
    "argv": "command",
    "auto_remove": "remove",
    "cmd": "command",
    "cwd": "workdir",
    "environment": "env",
    "mem_limit": "memory",
    "net": "network",
    "network_mode": "network",
    "ports": "publish",
    "rm": "remove",
    "shell": "script",
    "stdin": "input",
    "working_dir": "workdir",
}
"""Names of subprocess, docker-py and the command line, by which some look for another one of these."""

_BACKGROUND = "Container.start runs a command in the background"
_OUTPUT = "its output is in the events of `stream`, and in `logs` of a container"
_TERMINAL = "a program has a terminal only by `nbcontainer run -it`, in a terminal"
_ANSWERS = {
    "check": "the result that `wait` returns has `check_returncode`",
    "get": "read the files of the container by its `get`",
    **dict.fromkeys(("capture_output", "stderr", "stdout"), _OUTPUT),
    **dict.fromkeys(("background", "bg", "d", "detach"), _BACKGROUND),
    **dict.fromkeys(("interactive", "stdin_open", "tty"), _TERMINAL),
}
"""By a keyword that no other one stands for: where the thing is. Some functions have the keyword."""

_OF_NEW_CONTAINERS = {
    "engine": "the container has one",
    "image": "the container has one",
    "labels": "give them to nbcontainer.run, which makes a container with a name",
    "name": "the container has one; nbcontainer.run takes another",
    "platform": "choose it by create(find_image(image, platform=...))",
    "pull": "choose it by create(find_image(image, pull=...))",
    "remove": "call `remove` when it has ended",
}
"""By a keyword of `nbcontainer.run` alone: why a run in a container does not take it, or what does the same."""


class _Text(str):
    """An annotation as it is written: `help` shows a string with quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def takes_options(keywords: type[RunKeywords | ContainerKeywords]) -> Callable[[Function], Function]:
    """Return a decorator that gives a function with `**options` the signature with all of them, for `help`."""

    def decorate(function: Function) -> Function:
        found = inspect.signature(function)
        kept = [one.replace(annotation=_shown(one.annotation)) for one in found.parameters.values()]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_shown(annotation))
            for name, annotation in keywords.__annotations__.items()
        ]
        parameters = [*(one for one in kept if one.kind is not one.VAR_KEYWORD), *added]
        changed: Any = function
        changed.__signature__ = found.replace(parameters=parameters, return_annotation=_shown(found.return_annotation))
        return function

    return decorate


def _shown(annotation: Any) -> Any:
    text = getattr(annotation, "__forward_arg__", annotation)
    return _Text(text) if isinstance(text, str) else annotation


def check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise `TypeError` for a keyword that a function with `takes_options` does not have, with the likely one."""
    names = inspect.signature(function).parameters
    for keyword in options:
        if keyword not in names:
            name = function.__qualname__.replace("RunningContainer", "Container")
            advice = _advice(keyword, names)
            raise TypeError(
                f"{name}() got an unexpected keyword argument {keyword!r}" + (f": {advice}" if advice else "")
            )


def _advice(keyword: str, names: Iterable[str]) -> str:
    same = _SAME.get(keyword, keyword)
    if same in names:
        return f"did you mean {same}?"
    if answer := _OF_NEW_CONTAINERS.get(same) or _ANSWERS.get(same):
        return answer
    close = difflib.get_close_matches(keyword, [*names], 1)
    return f"did you mean {close[0]}?" if close else ""
