"""How long an image of 300 MB in 11 000 files takes to come from a registry on loopback, beside podman and skopeo.

    python -m tests.benchmarks.pulls [--rounds 7] [--directory /var/tmp]

The image has layers compressed with gzip, as registries have them, and is pulled into an empty store each time, until
cells can run on it. podman's pull ends with the layers unpacked in its storage, as ours does, and so does skopeo's copy
to that storage. skopeo's copy to a layout directory unpacks nothing: it is shown for what the transfer alone takes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.containers.engine import Engine
from nbcontainer.images.archives import loading
from nbcontainer.images.layers.compression import Compression
from nbcontainer.oci import reference
from tests.benchmarks.archives import build_tree, run, sync
from tests.benchmarks.measuring import Subject, arguments, interleave, machine, report
from tests.networks import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.oci.documents import Image

LAYERS = 4
OURS = "nbcontainer pull"


def main() -> None:
    """Prints a table."""
    options = arguments(__doc__, 7)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbc-bench-", dir=options.directory)))
        address = stack.enter_context(registry(place / "registry"))
        name = reference.parse(f"{address}/tree:1")
        size = _fill(place, name, options.files, options.bytes)
        print(machine())
        print(f"{options.files} files and links in {LAYERS} layers, {size / 1e6:.0f} MB compressed\n")
        subjects = [_ours(place, name, stack), *_podman(place, name, stack), *_skopeo(place, name)]
        print(report(interleave(subjects, options.rounds, 0.1), OURS))


@contextlib.contextmanager
def registry(place: Path) -> Iterator[str]:
    """docker-registry on a free port of loopback, with its data in `place`: its address."""
    place.mkdir()
    address = f"127.0.0.1:{free_port()}"
    (place / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\n"
        f"http: {{addr: {address}}}\n"
    )
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    words = ["docker-registry", "serve", str(place / "config.yml")]
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        host, _, port = address.partition(":")
        for _ in range(1000):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
                break
            assert process.poll() is None, "docker-registry does not start"
            time.sleep(0.02)
        yield address
        process.terminate()


def _fill(place: Path, name: reference.Reference, files: int, size: int) -> int:
    """Pushes an image of LAYERS layers with a tree's files in turn; the bytes of its layers as they travel."""
    build_tree(place / "tree", files, size)
    paths = sorted(path for path in (place / "tree").rglob("*") if path.is_symlink() or not path.is_dir())
    (place / "layout").mkdir()
    for number in range(LAYERS):
        names = place / "names"
        names.write_bytes(b"\0".join(bytes(path.relative_to(place)) for path in paths[number::LAYERS]))
        run("tar", "-C", place, "--null", "--no-recursion", "-T", names, "-cf", place / "layout" / f"{number}.tar")
    with contextlib.closing(Engine(place / "filler")) as engine:
        image = _layered(engine, [place / "layout" / f"{number}.tar" for number in range(LAYERS)])
        engine.images.push(image, name, compression=Compression.GZIP)
    with contextlib.closing(Engine(place / "sizer")) as engine:
        return engine.images.pull(name).size


def _layered(engine: Engine, tars: list[Path]) -> Image:
    """An image with a layer for each tar."""

    images = []
    for tar in tars:
        fd = loading.open_file(engine.store, tar)
        try:
            images += engine.images.load(fd, loading.ImportOptions(f"layer-{tar.stem}"))
        finally:
            os.close(fd)
    layers = tuple(layer for image in images for layer in image.layers)
    history = tuple(step for image in images for step in image.history)
    return engine.store.index.add_image(replace(images[0], layers=layers, history=history), "tree")


def _ours(place: Path, name: reference.Reference, stack: contextlib.ExitStack) -> Subject:
    numbers = itertools.count()
    engines: list[Engine] = []

    def before() -> None:
        engines.append(stack.enter_context(contextlib.closing(Engine(place / f"store{next(numbers)}"))))
        assert engines[-1].launcher.pid
        sync(place)

    return Subject(OURS, lambda: engines[-1].images.pull(name), before)


def _podman(place: Path, name: reference.Reference, stack: contextlib.ExitStack) -> list[Subject]:
    if not shutil.which("podman"):
        return []
    numbers = itertools.count()
    current = place

    def where() -> tuple[object, ...]:
        return ("--root", current / "root", "--runroot", current / "run")

    def before() -> None:
        nonlocal current
        current = place / f"podman{next(numbers)}"
        mounted = ["umount", "-l", str(current / "root" / "overlay")]
        stack.callback(lambda: subprocess.run(mounted, check=False, stderr=subprocess.DEVNULL))
        run("podman", *where(), "images")
        sync(place)

    def pull_it() -> None:
        run("podman", *where(), "pull", "--quiet", "--tls-verify=false", name.canonical)

    def copy_it() -> None:
        target = f"containers-storage:[overlay@{current}/root+{current}/run]localhost/tree:1"
        run("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{name.canonical}", target)

    subjects = [Subject("podman pull", pull_it, before)]
    return subjects + ([Subject("skopeo copy, to storage", copy_it, before)] if shutil.which("skopeo") else [])


def _skopeo(place: Path, name: reference.Reference) -> list[Subject]:
    if not shutil.which("skopeo"):
        return []
    numbers = itertools.count()

    def copy_it() -> None:
        target = f"oci:{place}/oci{next(numbers)}:tree"
        run("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{name.canonical}", target)

    return [Subject("skopeo copy, packed", copy_it, lambda: sync(place))]


if __name__ == "__main__":
    main()
