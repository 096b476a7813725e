"""How long the commit of 100 changed files takes: on an image of 300 MB in 11 000 files, on a small one, in podman.

    python -m tests.benchmarks.commits [--rounds 15] [--directory /var/tmp]

Each commit is of a new container, in which a script has changed the files before the clock runs. Ours ends when the
layer, its digest and the image's documents are in the store. All take turns; podman's is as its defaults have it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer import api
from nbcontainer.containers.engine import Engine
from nbcontainer.images.archives import loading
from tests.benchmarks.archives import build_tree, run, sync
from tests.benchmarks.measuring import Subject, arguments, interleave, machine, report

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGED = 100
OURS = "nbcontainer commit"

_CHANGE = 'find /tree ! -type d | head -n "$1" | while read -r file; do rm "$file"; echo "$file" >"$file"; done'


def main() -> None:
    """Prints a table."""
    options = arguments(__doc__, 15)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbc-bench-", dir=options.directory)))
        large, small = place / "large.tar", place / "small.tar"
        count, size = _build(place / "large", large, options.files, options.bytes)
        _build(place / "small", small, 2 * CHANGED, 1_000_000)
        print(machine())
        print(f"{CHANGED} files of {count} changed, {size / 1e6:.0f} MB in all\n")
        engine = stack.enter_context(contextlib.closing(Engine(place / "store")))
        subjects = [
            _ours(engine, OURS, large),
            _ours(engine, "... on a small image", small),
            *_podman(place, large, stack),
        ]
        print(report(interleave(subjects, options.rounds, 0.1), OURS))


def _build(root: Path, tar: Path, files: int, size: int) -> tuple[int, int]:
    """A root file system with a shell and a tree of files, as a tar."""
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy2(busybox, root / "bin" / "busybox")
    for applet in ("sh", "find", "head", "rm"):
        (root / "bin" / applet).symlink_to("busybox")
    counted = build_tree(root / "tree", files, size)
    run("tar", "--sort=name", "-C", root, "-cf", tar, ".")
    return counted


def _ours(engine: Engine, name: str, tar: Path) -> Subject:
    source = loading.open_file(engine.store, tar)
    try:
        engine.images.load(source, loading.ImportOptions(tar.stem))
    finally:
        os.close(source)
    names = _numbered(tar.stem)

    def before() -> None:
        api.run(tar.stem, ["/bin/sh", "-c", _CHANGE, "sh", str(CHANGED)], name=next(names), engine=engine)
        engine.background.wait()
        sync(engine.store.path)

    current = _numbered(tar.stem)

    def commit() -> None:
        container = next(current)
        api.commit(api.get(container, engine=engine), f"committed-{container}")

    return Subject(name, commit, before)


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}-{number}" for number in itertools.count())


def _podman(place: Path, tar: Path, stack: contextlib.ExitStack) -> list[Subject]:
    if not shutil.which("podman") or not shutil.which("runc"):
        return []
    settings = place / "containers.conf"
    # Its defaults ask for limits that a machine in a machine may not have.
    settings.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n')
    where = ("--root", place / "podman", "--runroot", place / "podman-run", "--runtime", shutil.which("runc"))
    mounted = ["umount", "-l", str(place / "podman" / "overlay")]
    stack.callback(lambda: subprocess.run(mounted, check=False, stderr=subprocess.DEVNULL))
    environment = os.environ | {"CONTAINERS_CONF": str(settings)}

    def podman(*words: object) -> None:
        argv = [str(word) for word in ("podman", *where, *words)]
        subprocess.run(argv, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    podman("import", "--quiet", tar, "localhost/large")
    names = _numbered("podman")
    current = _numbered("podman")

    def before() -> None:
        words = ("localhost/large", "/bin/sh", "-c", _CHANGE, "sh", str(CHANGED))
        podman("run", "--name", next(names), "--network", "none", *words)
        sync(place)

    def commit() -> None:
        container = next(current)
        podman("commit", "--quiet", container, f"localhost/committed-{container}")

    return [Subject("podman commit", commit, before)]


if __name__ == "__main__":
    main()
