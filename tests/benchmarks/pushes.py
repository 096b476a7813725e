"""How long an image of 300 MB takes to go to a registry on loopback, beside podman and skopeo.

    python -m tests.benchmarks.pushes [--rounds 5] [--directory /var/tmp]

The image has one plain layer of 11 000 files, as a commit makes it, so that each program compresses it. Each push goes
to a new and empty registry: podman and skopeo remember which layers a registry has. "A second tag" goes to the
registry that has the layer already.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

from nbcontainer.containers.engine import Engine
from tests.benchmarks.archives import build_tree, run
from tests.benchmarks.growth import verb
from tests.benchmarks.measuring import Subject, arguments, interleave, machine, report
from tests.benchmarks.pulls import registry

OURS = "nbcontainer push"


def main() -> None:
    """Print a table."""
    options = arguments(__doc__, 5)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbc-bench-", dir=options.directory)))
        place.chmod(0o755)
        registries = _Registries(place)
        stack.callback(registries.close)
        engine = stack.enter_context(contextlib.closing(Engine(place / "store")))
        build_tree(place / "tree", options.files, options.bytes)
        run("tar", "-C", place / "tree", "-cf", place / "tree.tar", ".")
        verb(engine, "import", str(place / "tree.tar"), "tree")
        print(machine())
        subjects = [*_ours(engine, registries), *_podman(place, registries, stack), *_skopeo(engine, place, registries)]
        print(report(interleave(subjects, options.rounds, 0.1), OURS))


class _Registries:
    """Registries on loopback, one after the other: `new` ends the last one and starts an empty one."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._numbers = itertools.count()
        self._stack = contextlib.ExitStack()
        self.name = ""

    def new(self) -> None:
        self.close()
        self._stack = contextlib.ExitStack()
        place = self._place / f"registry{next(self._numbers)}"
        self.name = f"{self._stack.enter_context(registry(place))}/tree"

    def close(self) -> None:
        self._stack.close()


def _ours(engine: Engine, registries: _Registries) -> list[Subject]:
    def known() -> None:
        registries.new()
        verb(engine, "push", "tree", f"{registries.name}:1")

    return [
        Subject(OURS, lambda: verb(engine, "push", "tree", f"{registries.name}:1"), registries.new),
        Subject("nbcontainer, a second tag", lambda: verb(engine, "push", "tree", f"{registries.name}:2"), known),
    ]


def _podman(place: Path, registries: _Registries, stack: contextlib.ExitStack) -> list[Subject]:
    if not shutil.which("podman"):
        return []
    where = ("--root", place / "podman" / "root", "--runroot", place / "podman" / "run")
    mounted = ["umount", "-l", str(place / "podman" / "root" / "overlay")]
    stack.callback(lambda: subprocess.run(mounted, check=False, stderr=subprocess.DEVNULL))
    run("podman", *where, "import", "--quiet", place / "tree.tar", "localhost/tree:1")
    push = ("podman", *where, "push", "--quiet", "--tls-verify=false", "localhost/tree:1")
    return [Subject("podman push", lambda: run(*push, f"{registries.name}:1"), registries.new)]


def _skopeo(engine: Engine, place: Path, registries: _Registries) -> list[Subject]:
    if not shutil.which("skopeo"):
        return []
    verb(engine, "save", "tree", "-o", f"{place}/layout/")
    copy = ("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{place}/layout:latest")
    return [Subject("skopeo copy", lambda: run(*copy, f"docker://{registries.name}:1"), registries.new)]


if __name__ == "__main__":
    main()
