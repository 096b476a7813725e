"""An AppArmor profile that lets a plain user's notebook use user namespaces (apparmor.d(5)).

Ubuntu refuses capabilities in the user namespaces of plain users since 24.04, except to programs whose profile has the
rule `userns` (kernel.apparmor_restrict_unprivileged_userns).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nbcontainer.errors import UsageError

FILE = "/etc/apparmor.d/nbcontainer"
"""Where the profile goes (host)."""

_LINES = """\
# Save this as {file}, then load it:
#   nbcontainer doctor --apparmor-profile | sudo tee {file}
#   sudo apparmor_parser -r {file}
# It lets every program that this interpreter runs use user namespaces, and restricts nothing else. To allow fewer
# programs, give the notebook an interpreter of its own: python3 -m venv --copies DIRECTORY
abi <abi/4.0>,
include <tunables/global>

profile nbcontainer "{program}" flags=(unconfined) {{
  userns,
  include if exists <local/nbcontainer>
}}"""


def profile(program: str | Path | None = None) -> str:
    """Return a profile for the interpreter `program` (host), by default this one. Raises `UsageError`.

    AppArmor compares the path of the program without links.
    """
    path = str(Path(program or sys.executable).resolve())
    if not path.isprintable() or '"' in path:
        hint = "use an interpreter at another path"
        raise UsageError(f"cannot write an AppArmor profile for {path!r}: its path has a quote or a control", hint=hint)
    return _LINES.format(file=FILE, program=re.sub(r"([\\*?{}\[\]^@])", r"\\\1", path))
