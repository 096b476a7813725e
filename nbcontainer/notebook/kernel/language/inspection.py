"""Inspection: what the shell, manual pages and help texts say about a name."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from nbcontainer.notebook.kernel.language.words import name_at

if TYPE_CHECKING:
    from collections.abc import Callable

_VARIABLE = """
if [ -n "$BASH_VERSION" ]; then declare -p {name} 2>/dev/null
elif [ -n "${{{name}+x}}" ]; then printf '%s=%s\\n' {name} "${name}"; fi
"""

_COMMAND = """
what=$(type {name} 2>/dev/null) || exit
printf '%s\\n' "$what"
case $what in
*function* | *alias*) ;;
*builtin* | *keyword*) [ -z "$BASH_VERSION" ] || help {name} ;;
*) man {name} 2>/dev/null || {name} --help 2>&1 ;;
esac
"""

_FILE = "type {name} 2>/dev/null"
"""For a name with a slash: a script of the user may ignore `--help`, and do all that it does."""

_OVERSTRUCK = re.compile(".\b")
"""How man(1) writes bold and underlined characters for a printer (grotty(1))."""


def inspect(text: str, position: int, ask: Callable[[str], str]) -> str:
    """Return the documentation of the name at a position, or an empty string. `ask` runs a script in the shell."""
    name = name_at(text, position)
    if not name or name == "$":
        return ""
    if name.startswith("$"):
        script = _VARIABLE.format(name=name[1:]) if name[1:].isidentifier() else ""
    else:
        script = (_FILE if "/" in name else _COMMAND).format(name=shlex.quote(name))
        if name.isidentifier():
            script = f"found=$({_VARIABLE.format(name=name)})\nprintf '%s\\n' \"$found\"\n{script}"
    return _OVERSTRUCK.sub("", ask(script)).strip() if script else ""
