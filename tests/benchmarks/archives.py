"""How long an archive of 300 MB in 11 000 files takes to come in and to go out, beside GNU tar and podman.

    python -m tests.benchmarks.archives [--rounds 7] [--directory /var/tmp]

The tree is made of this machine's own files, the same each time. What is measured ends when the data is with the
kernel: `tar -x` syncs nothing, an import here is synced in the background, before the next run begins. Everything takes
turns, and starts with nothing left to write back. Each run writes to a place of its own and all are removed at the end:
after a removal ext4 takes minutes to make new files at its usual speed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.commit import export
from nbcontainer.containers.engine import Engine
from nbcontainer.images.archives import loading
from nbcontainer.images.archives.saving import save_archive
from nbcontainer.progress import Tracker
from tests.benchmarks.measuring import Subject, arguments, interleave, machine, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.oci.documents import Image

_SOURCES = (Path("/usr/lib"), Path("/usr/share"))
_SLACK = 16 << 20  # bytes by which the tree may run ahead of its average file


def main() -> None:
    """Prints two tables: import; export and save."""
    options = arguments(__doc__, 7)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbc-bench-", dir=options.directory)))
        count, size = build_tree(place / "tree", options.files, options.bytes)
        run("tar", "--sort=name", "-C", place / "tree", "-cf", place / "tree.tar", ".")
        print(machine())
        print(f"{count} files and links of {size / 1e6:.0f} MB, a tar of {_size(place / 'tree.tar') / 1e6:.0f} MB")
        ours = Ours(place, stack)
        _imports(ours, place, options.rounds, stack)
        _exports(ours, place, options.rounds)


def build_tree(target: Path, files: int, size: int) -> tuple[int, int]:
    """Copies files of this machine below `target`, whole directories at a time in an order that is only theirs.

    Returns how many, and their bytes together: `files` and, where they allow it, `size`.
    """
    count = total = 0
    for path in _sorted_files():
        facts = path.lstat()
        ahead = total + facts.st_size - size * (count + 1) / files
        if count == files:
            break
        if ahead > _SLACK or total + facts.st_size > size:
            continue
        copy = target / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy, follow_symlinks=False)
        count += 1
        total += facts.st_size
    return count, total


def _sorted_files() -> Iterator[Path]:
    folders = [Path(folder) for source in _SOURCES for folder, _, _ in os.walk(source)]
    for folder in sorted(folders, key=lambda folder: hashlib.sha256(bytes(folder)).digest()):
        for path in sorted(folder.iterdir()):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and os.access(path, os.R_OK)):
                yield path


class Ours:
    """A new store for every import, made, and its launcher started, before the clock runs."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self.place = place
        self.stack = stack
        self.numbers = itertools.count()
        self.engine: Engine
        self.image: Image

    def new_store(self) -> None:
        """Opens the next store."""
        self.engine = self.stack.enter_context(contextlib.closing(Engine(self.place / f"store{next(self.numbers)}")))
        assert self.engine.launcher.pid
        sync(self.place)

    def import_archive(self) -> None:
        """Imports the tar, from opening it to having the image, which cells can run on."""
        source = loading.open_file(self.engine.store, self.place / "tree.tar")
        try:
            (self.image,) = self.engine.images.load(source, loading.ImportOptions("tree"))
        finally:
            os.close(source)

    def export(self) -> None:
        """Exports the image of the newest import."""
        export(self.engine, self.engine.images.lowers(self.image), self.place / "ours.tar")

    def save(self) -> None:
        """Saves it as an archive that OCI readers and `docker load` take."""
        with Tracker("save") as tracker:
            save_archive(self.engine.store, [self.image], self.place / "saved.tar", tracker)


def _imports(ours: Ours, place: Path, rounds: int, stack: contextlib.ExitStack) -> None:
    folders = itertools.count()

    def tar() -> None:
        run("tar", "-xf", place / "tree.tar", "-C", place / "unpacked")

    def before_tar() -> None:
        if (place / "unpacked").exists():
            (place / "unpacked").rename(place / f"unpacked{next(folders)}")
        (place / "unpacked").mkdir()
        sync(place)

    subjects = [
        Subject("GNU tar -x", tar, before_tar),
        Subject("nbcontainer import", ours.import_archive, ours.new_store),
        *_podman(place, stack),
    ]
    print(f"\nimport, {rounds} rounds, taking turns:\n")
    print(report(interleave(subjects, rounds, 0), "GNU tar -x", "tar's"))


def _exports(ours: Ours, place: Path, rounds: int) -> None:
    def before(name: str) -> Callable[[], None]:
        def remove() -> None:
            (place / name).unlink(missing_ok=True)
            sync(place)

        return remove

    def tar() -> None:
        run("tar", "-cf", place / "gnu.tar", "-C", place / "unpacked", ".")

    subjects = [
        Subject("GNU tar -c", tar, before("gnu.tar")),
        Subject("nbcontainer export", ours.export, before("ours.tar")),
        Subject("nbcontainer save", ours.save, before("saved.tar")),
    ]
    print(f"\nexport and save, {rounds} rounds, taking turns:\n")
    print(report(interleave(subjects, rounds, 0), "GNU tar -c", "tar's"))


def _podman(place: Path, stack: contextlib.ExitStack) -> list[Subject]:
    if not shutil.which("podman") or not shutil.which("runc"):
        return []
    numbers = itertools.count()
    current = place

    def before() -> None:
        nonlocal current
        current = place / f"podman{next(numbers)}"
        mounted = ["umount", "-l", str(current / "root" / "overlay")]
        stack.callback(lambda: subprocess.run(mounted, check=False, stderr=subprocess.DEVNULL))
        podman("images")
        sync(place)

    def podman(*words: object) -> None:
        where = ("--root", current / "root", "--runroot", current / "run", "--runtime", shutil.which("runc"))
        run("podman", *where, *words)

    return [Subject("podman import", lambda: podman("import", "--quiet", place / "tree.tar", "tree"), before)]


def run(*words: Any) -> None:
    """Runs a command and drops what it prints."""
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def sync(place: Path) -> None:
    """Writes back all that waits for it on the file system of `place`."""
    run("sync", "--file-system", place)


def _size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    main()
