"""Completion of the word at the cursor, with the names that the shell in the container has."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.notebook.kernel.language.words import CursorPlace, place, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Ask = Callable[[str], str]

_BUILTINS = (
    ". : [ alias bg break case cd command continue do done elif else esac eval exec exit export false fg fi for "
    "getopts hash help if jobs kill local printf pwd read readonly return set shift test then times trap true type "
    "ulimit umask unalias unset until wait while echo in"
).split()
"""The built-ins of dash and ash, which cannot list them (POSIX.1-2017, 2.4, 2.14 and 1.6)."""

_OF_VARIABLES = ("export", "unset", "readonly", "read", "local", "declare")
_OF_COMMANDS = ("type", "which", "man", "help", "command", "hash", "whereis")
_OF_DIRECTORIES = ("cd", "pushd", "rmdir")

_FILES = """
shopt -u failglob nullglob 2>/dev/null
for path in {prefix}*; do
    if [ -d "$path" ]; then printf '%s/\\0' "$path"
    elif [ -e "$path" ] || [ -L "$path" ]; then {plain}; fi
done
"""

_COMMANDS = """
if [ -n "$BASH_VERSION" ]; then
    compgen -c -- {prefix}
else
    alias | while read -r name; do name=${{name#alias }}; echo "${{name%%=*}}"; done
    for name in {known}; do command -v "$name" >/dev/null && echo "$name"; done
    IFS=:
    set -f
    set -- $PATH
    set +f
    unset IFS
    for folder; do
        for path in "$folder"/{prefix}*; do [ -f "$path" ] && [ -x "$path" ] && echo "${{path##*/}}"; done
    done
fi
"""

_VARIABLES = """
if [ -n "$BASH_VERSION" ]; then compgen -v -- {prefix}; else set; fi
"""

_OPTIONS = """
case $(type {command} 2>/dev/null) in
*function* | *builtin* | *keyword* | *alias* | '') ;;
*) {command} --help 2>&1 ;;
esac
"""

_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class Completion:
    """The `matches`; each replaces the text from `start` to the cursor."""

    start: int
    matches: tuple[str, ...] = ()


def complete(text: str, ask: Ask, functions: Iterable[str] = ()) -> Completion:
    """Complete the end of `text`. `ask` runs a script in the shell; `functions` are names that cells may define."""
    where = place(text)
    if (variable := where.variable) is not None:
        start = len(text) - len(variable)
        closing = "}" if variable.startswith("${") else ""
        names = _variables(variable.lstrip("${"), ask)
        return _sorted(start, (variable[: 2 if closing else 1] + name + closing for name in names))
    if not where.redirected and not where.quote:
        if not where.command and "/" not in where.word and not where.word.startswith("~"):
            return (
                _sorted(where.start, _commands(where.word, ask, functions)) if where.word else Completion(where.start)
            )
        if where.command in _OF_VARIABLES and not where.word.startswith("-"):
            return _sorted(where.start, _variables(where.word, ask))
        if where.command in _OF_COMMANDS and "/" not in where.word:
            return _sorted(where.start, _commands(where.word, ask, functions))
        if where.command and where.word.startswith("-") and "=" not in where.word:
            return _sorted(where.start, _options(where, ask))
    return _sorted(where.start, _files(where, ask))


def _sorted(start: int, matches: Iterable[str]) -> Completion:
    return Completion(start, tuple(sorted({match for match in matches if "_nb_" not in match})))


def _files(where: CursorPlace, ask: Ask) -> Iterable[str]:
    """Return the matching files, directories with a slash. The value of an option (`--file=`) is completed too."""
    before, word = "", where.word
    if "=" in word:
        before, _, word = word.rpartition("=")
        before += "="
    home, slash, rest = word.partition("/")
    expands = home == "~" and bool(slash) and not where.quote
    prefix = f'"$HOME"/{shlex.quote(rest)}' if expands else shlex.quote(word)
    plain = ":" if where.command in _OF_DIRECTORIES else "printf '%s\\0' \"$path\""
    script = _FILES.format(prefix=prefix, plain=plain)
    if expands:
        script += "printf '%s\\0' \"$HOME\"\n"
    found = [path for path in ask(script).split("\0") if path]
    if expands and found:
        length = len(found.pop())
        return [before + "~" + quoted(path[length:]) for path in found]
    return [before + quoted(path, where.quote) if not before else quoted(before + path, where.quote) for path in found]


def _commands(prefix: str, ask: Ask, functions: Iterable[str]) -> Iterable[str]:
    known = [name for name in (*_BUILTINS, *functions) if name.startswith(prefix)]
    script = _COMMANDS.format(prefix=shlex.quote(prefix), known=shlex.join(known))
    return [name for name in ask(script).splitlines() if name.startswith(prefix)]


def _variables(prefix: str, ask: Ask) -> Iterable[str]:
    answer = ask(_VARIABLES.format(prefix=shlex.quote(prefix)))
    names = (re.fullmatch(r"([A-Za-z_]\w*)(=.*)?", line) for line in answer.splitlines())
    return [name.group(1) for name in names if name and name.group(1).startswith(prefix)]


def _options(where: CursorPlace, ask: Ask) -> Iterable[str]:
    """Return the options in a program's help text. A program that is not on PATH is not run for it."""
    if "/" in where.command:
        return []
    answer = ask(_OPTIONS.format(command=shlex.quote(where.command)))
    return [option for option in _OPTION.findall(answer) if option.startswith(where.word)]
