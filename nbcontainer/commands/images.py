"""The verbs for images: import, export, names, inspection."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.several import raise_first, tried
from nbcontainer.commands.standard_files import check_stream
from nbcontainer.commands.views import ImageRow, Lines, Note, ProblemRow, StepRow, UsageRow, listings, short, size
from nbcontainer.containers.cleanup import sweep
from nbcontainer.containers.snapshot import held
from nbcontainer.errors import ImageNotFound, UsageError
from nbcontainer.images import library
from nbcontainer.images.layers.compression import Compression
from nbcontainer.oci import config_changes, platforms, reference
from nbcontainer.oci.reference import ImageFile
from nbcontainer.rendering.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.engine import Engine
    from nbcontainer.images.archives.loading import ImportOptions
    from nbcontainer.images.library import Images
    from nbcontainer.oci.documents import Image

PLATFORM = Option(
    ("--platform",), "OS/ARCH[/VARIANT]", "choose this platform if an image has several, as in linux/arm64"
)
COMPRESS = Option(("--compress",), "none|gzip|zstd", "compression of layers that are uncompressed in the store")
CHANGE = Option(
    ("-c", "--change"),
    "INSTRUCTION",
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR, as in a "
    "Dockerfile",
)


def _images(call: Invocation) -> View:
    found = sorted(call.engine.store.index.images().items())
    if call.words.operands:
        found = [(name, image) for name, image in found if _is_of(name, call.words.operands[0])]
    whole = call.words.has("no-trunc")
    if call.words.has("quiet"):
        return Lines(tuple(dict.fromkeys(image.digest if whole else short(image.digest) for _, image in found)))
    rows = [ImageRow(name, image.digest, len(image.layers), image.size, image.created) for name, image in found]
    return listings.image_list(rows, whole_digests=whole)


def _is_of(name: str, wanted: str) -> bool:
    """Whether an image has the name `wanted`: with any tag, if `wanted` has none. Raises `UsageError`."""
    asked = reference.parse(wanted)
    if name == asked.familiar:
        return True
    try:
        known = reference.parse(name)
    except UsageError:  # the name of a file's image
        return False
    written = wanted.removeprefix("docker://").rpartition("/")[2]
    return known.name == asked.name and ":" not in written and "@" not in written


def _images_of(call: Invocation) -> Images:
    """Return the engine's images, whose transfers report to the invocation's listener."""
    return call.engine.images.reporting_to(call.listener)


def describe(image: Image) -> str:
    """Return one line about a new image."""
    return f"{image.name}  {image.digest}  {count(len(image.layers), 'layer')}, {size(image.size)}"


def _import(call: Invocation) -> View:
    file, *names = call.words.operands
    if file == "-" and not names:
        raise UsageError("import: missing image name", hint="write `import - NAME`, or `load -` for an image archive")
    if file == "-":
        check_stream(0, f"import - {names[0]}")
    from nbcontainer.images.archives.loading import ImportOptions

    changes = call.words.all("change")
    options = ImportOptions(reference.parse_new(names[0]).familiar if names else "", only_root=bool(changes))
    config = config_changes.apply_all(options.config, changes)
    return _bring_in(call, file, replace(options, config=config))


def _load(call: Invocation) -> View:
    files = [*call.words.operands, *call.words.all("input")]
    if len(files) != 1:
        hint = "write `load FILE`, `load DIR`, or `load -` for a stream"
        raise UsageError("load: expected exactly one file", hint=hint)
    if files == ["-"]:
        check_stream(0, "load -")
    from nbcontainer.images.archives.loading import ImportOptions

    return _bring_in(call, files[0], ImportOptions())


def _bring_in(call: Invocation, file: str, options: ImportOptions) -> View:
    from nbcontainer.images.archives import loading

    named = ImageFile(Path("-")) if file == "-" else reference.image_file(file)
    path = named.path
    text = call.words.one("platform")
    options = replace(
        options,
        stem=loading.stem_of(path),
        platform=platforms.parse(text) if text else None,
        created_by=f"nbcontainer import {path.name}",
        select=named.select,
    )
    source = 0 if file == "-" else loading.open_file(call.engine.store, path)
    images = _images_of(call)
    try:
        found = images.load(source, options)
    finally:
        if source != 0:
            os.close(source)
    return _brought(images, found)


def _brought(images: Images, found: Iterable[Image]) -> Note:
    """Return a line for each new image, and one for each tolerance with which it was taken."""
    lines = [describe(image) for image in found]
    return Note("\n".join([*lines, *(f"note: {visible(text)}" for text in dict.fromkeys(images.notices))]))


def _pull(call: Invocation) -> View:
    images, text = _images_of(call), call.words.one("platform")
    platform = platforms.parse(text) if text else None
    if any(map(reference.is_path, call.words.operands)):
        if len(call.words.operands) > 1:
            raise UsageError("pull: a file is pulled alone", hint="write one `load FILE` for each")
        return _load(call)
    wanted = [reference.parse(word) for word in call.words.operands]
    if any(one.familiar == reference.HOST for one in wanted):
        raise UsageError("'host' is built in and cannot be pulled", hint="use it directly: `%%container host`")
    found = [images.pull(one, platform) for one in wanted]
    if call.words.has("quiet"):
        return Lines(tuple(image.digest for image in found))
    return _brought(images, found)


def _push(call: Invocation) -> View:
    source, *target = call.words.operands
    image = known(call.engine, source)
    wanted = reference.parse_new(target[0] if target else source)
    compression = _compression(call, Compression.GZIP)
    with held(call.engine, image.name, image.digest, ()):
        manifest = _images_of(call).push(image, wanted, compression=compression)
    return Note(f"{wanted.canonical}@{manifest.digest}")


def _save(call: Invocation) -> View:
    target = call.words.one("output")
    if not target:
        hint = "write `save IMAGE... -o FILE.tar`, `-o -` for a stream, or `-o DIR/` for a layout"
        raise UsageError("save: missing output file", hint=hint)
    if target == "-":
        check_stream(1, f"save {' '.join(call.words.operands)} -o -")
    images = [known(call.engine, name) for name in call.words.operands]
    path = reference.host_path("/dev/stdout" if target == "-" else target)
    layers = _compression(call, Compression.NONE)
    with contextlib.ExitStack() as stack:
        for image in images:
            stack.enter_context(held(call.engine, image.name, image.digest, ()))
        if target.endswith("/") or os.path.isdir(path):  # noqa: PTH112 - false for what cannot be
            _images_of(call).save_layout(images, path, layers)
            return Note(f"{target}  {count(len(images), 'image')}")
        written = _images_of(call).save(images, path, layers)
    return None if target == "-" else Note(f"{target}  {count(len(images), 'image')}, {size(written)}")


def _compression(call: Invocation, default: Compression) -> Compression:
    text = call.words.one("compress", str(default))
    if text not in (Compression.NONE, Compression.GZIP, Compression.ZSTD):
        raise UsageError(f"unknown compression '{text}' for --compress", hint="choose one of none, gzip, zstd")
    return Compression(text)


def known(engine: Engine, name: str) -> Image:
    """Return the image of that name, from the store or built in. Raises `ImageNotFound`, `UsageError`."""
    return engine.images.find(name, pull=library.NEVER)


def _tag(call: Invocation) -> View:
    source, target = call.words.operands
    return Note(describe(call.engine.store.index.tag(known(call.engine, source), reference.parse_new(target).familiar)))


def _rmi(call: Invocation) -> View:
    done, errors = tried(call.words.operands, lambda word: _names_to_drop(call, word))
    gone = list(dict.fromkeys(name for _, names in done for name in names))
    call.engine.store.index.drop_images(gone)  # one new index.json for all of them
    call.engine.later(lambda: sweep(call.engine))
    removed = f"removed {', '.join(gone)}" if gone else ""
    if call.words.has("force"):
        errors = [error for error in errors if not isinstance(error, ImageNotFound)]
    raise_first(errors, removed)
    return Note(removed or "nothing to remove")


def _names_to_drop(call: Invocation, word: str) -> list[str]:
    """Return the names that `rmi` removes: one, or with --force all those of a digest.

    Raises `UsageError`, `ImageNotFound`.
    """
    index = call.engine.store.index
    name = word if reference.is_digest(word) else reference.parse(word).familiar
    if name in index.damaged():
        return [name]
    image = index.image(name)
    if image.name == name or not (reference.is_digest(word) or reference.is_short_digest(word)):
        return [image.name]
    names = sorted(known for known, other in index.images().items() if other.digest == image.digest)
    if len(names) > 1 and not call.words.has("force"):
        hint = "name one of them, or add --force for all"
        raise UsageError(f"the image {word} has several names: {', '.join(names)}", hint=hint)
    return names


def _df(call: Invocation) -> View:
    from nbcontainer.containers.disk_usage import total, usage

    rows = [UsageRow(one.kind, one.name, one.own, one.shared) for one in usage(call.engine)]
    return listings.usage_list([*rows, UsageRow("total", "", total(call.engine))])


def _verify(call: Invocation) -> View:
    problems = _images_of(call).verify()
    if call.words.has("remove"):
        for path in {problem.blob for problem in problems if problem.blob is not None}:
            path.unlink(missing_ok=True)
    from nbcontainer.containers.integrity.container_check import check_containers

    rows = [ProblemRow(problem.image, problem.what) for problem in problems]
    rows += [ProblemRow("", one.what, one.container) for one in check_containers(call.engine.store)]
    from nbcontainer.containers.cached.transfer import problems as problems_of_results

    rows += [ProblemRow("", text) for text in problems_of_results(call.engine, remove=call.words.has("remove"))]
    return listings.problem_list(rows)


def history(image: Image) -> View:
    """Return the steps that made an image, the first one first, with the size of each layer."""
    sizes = iter(layer.blob.size for layer in image.layers)
    rows = [
        StepRow(step.created, None if step.empty else next(sizes), step.created_by, step.comment)
        for step in image.history
    ]
    return listings.step_list(rows)


IMAGE_VERBS = (
    Verb(
        Command(
            "images",
            "[NAME]",
            "List the images in the store, or those of one name.",
            (
                Option(("-q", "--quiet"), "", "show the digests alone"),
                Option(("-a", "--all"), "", "accepted, as in Docker: all images are listed"),
                Option(("--no-trunc",), "", "show whole digests"),
            ),
            most=1,
        ),
        _images,
    ),
    Verb(
        Command(
            "import",
            "FILE|DIR|- [IMAGE]",
            "Make an image of a root file system tar, or import the images of an archive or a layout directory.",
            (CHANGE, PLATFORM),
            least=1,
            most=2,
        ),
        _import,
    ),
    Verb(
        Command(
            "load",
            "FILE|DIR|-",
            "Load the images of an archive (docker save, podman save, OCI) or a layout directory, with their names.",
            (Option(("-i", "--input"), "FILE", "the archive, as with docker load"), PLATFORM),
            most=1,
        ),
        _load,
    ),
    Verb(
        Command(
            "pull",
            "IMAGE...",
            "Pull images from their registries.",
            (PLATFORM, Option(("-q", "--quiet"), "", "show the digests alone")),
            least=1,
            most=999,
        ),
        _pull,
    ),
    Verb(
        Command(
            "push",
            "IMAGE [NAME]",
            "Push an image to a registry, under its own name or another.",
            (COMPRESS,),
            least=1,
            most=2,
        ),
        _push,
    ),
    Verb(
        Command(
            "save",
            "IMAGE...",
            "Write images to an archive that OCI readers and docker load accept, or to a layout directory.",
            (
                Option(("-o", "--output"), "FILE|DIR/", ".tar, .tar.gz or .tar.zst; a directory if it ends with /"),
                COMPRESS,
            ),
            least=1,
            most=999,
        ),
        _save,
    ),
    Verb(Command("tag", "IMAGE NAME", "Give an image another name.", least=2, most=2), _tag),
    Verb(Command("df", "", "Show disk usage; prune frees what is unreferenced."), _df),
    Verb(
        Command(
            "verify",
            "",
            "Read every blob and every journal, and list the images and containers that are damaged.",
            (Option(("--remove",), "", "remove damaged blobs, so that pull or load imports them again"),),
        ),
        _verify,
    ),
    Verb(
        Command(
            "rmi",
            "IMAGE...",
            "Remove images' names, and what nothing else uses.",
            (Option(("-f", "--force"), "", "ignore images that do not exist; by a digest, remove all names"),),
            least=1,
            most=999,
        ),
        _rmi,
    ),
)
