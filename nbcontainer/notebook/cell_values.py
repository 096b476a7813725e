"""`--in`, `--get` and `--show` of a cell: from arguments to an exchange, and from that to variables and displays."""

from __future__ import annotations

import ast
import keyword
import re
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.grammar import Option, ValueKind
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from nbcontainer.commands.grammar import Words
    from nbcontainer.values.exchange import Exchange

OPTIONS = (
    Option(
        ("--in",),
        "NAME[,NAME...]|NAME=EXPR",
        "pass variables, or the value of an expression, as files in /in",
        kind=ValueKind.VARIABLE,
        filled=False,
    ),
    Option(("--get",), "NAME[=PATH]", "set a variable to the value of /out/NAME.*, or of the file PATH in /out"),
    Option(("--show",), "", "show the pictures, tables and texts that the run leaves in /out"),
    Option(("--trust-output",), "", "show HTML, SVG and scripts of the container unchanged; they run with your rights"),
)

_NAMED = re.compile(r"\s*([^\W\d]\w*)\s*=(?!=)\s*(.*)", re.DOTALL)


def given(words: Words) -> bool:
    """Return whether the arguments have one of the options."""
    return words.has("in") or words.has("get") or words.has("show")


def exchange(words: Words, namespace: Mapping[str, Any]) -> Exchange:
    """Return the exchange of a cell with these arguments, which the caller closes. Raises `UsageError`."""
    from nbcontainer.values.exchange import Exchange

    return Exchange(_inputs(words.all("in"), namespace), output=words.has("get") or words.has("show"))


def _inputs(texts: Sequence[str], namespace: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        for name, value in _values(text, namespace):
            if name in found:
                raise UsageError(f"--in passes '{name}' twice", hint="remove one of them")
            found[name] = value
    return found


def _values(text: str, namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if named := _NAMED.fullmatch(text):
        yield _checked(named[1], "--in"), _evaluated(named[1], named[2], namespace)
        return
    for name in text.split(","):
        name = _checked(name.strip(), "--in")
        if name not in namespace:
            raise UsageError(f"--in: the notebook has no variable '{name}'", hint=f"set it, or write --in {name}=EXPR")
        yield name, namespace[name]


def _checked(name: str, option: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"{option}: invalid variable name {name!r}", hint=f"write {option} NAME")
    return name


def _evaluated(name: str, text: str, namespace: Mapping[str, Any]) -> Any:
    """Return the value of the notebook's own expression, in the notebook's own process."""
    try:
        expression = ast.parse(text.strip(), mode="eval")
        return eval(compile(expression, "<--in>", "eval"), dict(namespace))
    except Exception as error:
        detail = error.msg if isinstance(error, SyntaxError) else error
        problem = f"cannot evaluate --in {name}={text}: {type(error).__name__}: {detail}"
        raise UsageError(problem, hint="write one Python expression, without spaces or in quotes") from None


def wanted(words: Words) -> dict[str, str]:
    """Return the variables of `--get`, with the paths of their files relative to `/out`; empty for `NAME.*`.

    Raises `UsageError`.
    """
    found: dict[str, str] = {}
    for text in words.all("get"):
        name, equals, path = text.partition("=")
        _checked(name, "--get")
        if name in found:
            raise UsageError(f"--get sets '{name}' twice", hint="remove one of them")
        found[name] = _in_output(path) if equals else ""
    return found


def _in_output(path: str) -> str:
    from nbcontainer.values.exchange import path_in_output

    return path_in_output(path, "--get")


def finish(found: Exchange, words: Words, namespace: MutableMapping[str, Any], *, trust: bool) -> None:
    """Set the variables of `--get`, all or none, and show what `--show` asks for. Raises `ValueUnavailable`."""
    namespace.update(found.get(wanted(words)))
    if words.has("show"):
        _show(found, trust=trust)


def _show(found: Exchange, *, trust: bool) -> None:
    from IPython.display import display

    from nbcontainer.values import show

    for bundle in show.bundles(found, trust=trust):
        if isinstance(bundle, str):
            print(f"nbcontainer: {bundle}", file=sys.stderr)
        else:
            display(bundle, raw=True)  # type: ignore[no-untyped-call]
