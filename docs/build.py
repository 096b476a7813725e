"""The documentation site: `python -m docs.build [DIRECTORY]` builds it in DIRECTORY, `_site` by default."""

from __future__ import annotations

import argparse
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


def main() -> int:
    """Build the site that the command line names, say where it is, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.build", description="Build the documentation site.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("_site"), help="default: %(default)s")
    directory = parser.parse_args().directory
    status = build(directory)
    if not status:
        print(f"open {directory.resolve() / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
