"""The documentation site: `python -m docs.build [DIRECTORY]` builds it in DIRECTORY, `_site` by default."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx_build

PROJECT = Path(__file__).parents[1]
QUIET = "-q"
WARNINGS_ARE_ERRORS = ("--fail-on-warning", "--keep-going")


def build(directory: Path) -> int:
    """Build the site in `directory` and return the exit status of sphinx-build(1): 1 after a warning."""
    sources = ["-c", str(PROJECT / "docs"), "-d", str(directory / ".doctrees"), str(PROJECT), str(directory)]
    return sphinx_build([QUIET, *WARNINGS_ARE_ERRORS, *sources])


if __name__ == "__main__":
    chosen = Path(sys.argv[1] if len(sys.argv) > 1 else "_site")
    status = build(chosen)
    if not status:
        print(f"open {chosen.resolve() / 'index.html'}")
    sys.exit(status)
