"""The images of a store, for the Python API."""

from __future__ import annotations

import os
from pathlib import Path

from nbcontainer.commands.options.run_option import string
from nbcontainer.containers.cleanup import sweep
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.snapshot import held
from nbcontainer.errors import ImageNotFound, UsageError
from nbcontainer.images import library
from nbcontainer.oci import platforms, reference
from nbcontainer.oci.documents import Image
from nbcontainer.runs import arguments


def list_images(*, engine: Engine | None = None) -> list[Image]:
    """Return the images of the store, by name.

    >>> image = find_image("busybox")
    >>> "busybox" in [image.name for image in list_images()]
    True
    """
    images = (engine or default_engine()).store.index.images()
    return [images[name] for name in sorted(images)]


def find_image(
    name: str | Image, *, pull: str = library.MISSING, platform: str = "", engine: Engine | None = None
) -> Image:
    """Return the image that a name, a digest or the path (host) of an archive names, as `run` finds it; or an `Image`.

    `pull` is `missing`, `always` or `never`. Raises `ImageNotFound`, `ImageError`, `RegistryError`, `UsageError`.

    >>> image = find_image("busybox")
    >>> image.name, len(image.layers), image.platform.os
    ('busybox', 1, 'linux')
    >>> run(image, ["echo", "found"]).text
    'found\\n'
    """
    word, used = arguments.image("name", name), engine or default_engine()
    return used.images.find(word, pull=string("pull", pull), platform=string("platform", platform))


def pull(name: str, *, platform: str = "", engine: Engine | None = None) -> Image:
    """Return an image that is fetched from its registry, even if the store has one of that name.

    Raises `RegistryError`, `ImageError`, `UsageError`.

    >>> try:
    ...     pull("localhost:1/nothing")
    ... except RegistryError as error:
    ...     print("not reached")
    not reached
    """
    if reference.is_path(string("name", name)):
        raise UsageError(f"'{name}' is a file, not the name of an image", hint=f"write load({name!r})")
    return find_image(name, pull=library.ALWAYS, platform=platform, engine=engine)


def load(path: str | Path, *, name: str = "", platform: str = "", engine: Engine | None = None) -> list[Image]:
    """Return the images of an archive or an OCI layout directory (host path), which are now in the store.

    It may be of `docker save`, `podman save` or `skopeo`, or a root file system tar; compressed or not. `name` is that
    of its only image, in place of the name in the file. Raises `HostileArchive`, `ImageError`, `StoreError`,
    `UsageError`.

    >>> with create("busybox") as box:
    ...     image = box.commit("mine")
    >>> save("mine", "mine.tar")
    >>> [image.name for image in load("mine.tar")]
    ['mine']
    >>> (image,) = load("mine.tar", name="greeting")
    >>> remove_image("mine")
    >>> remove_image(image)
    """
    from nbcontainer.images.archives import loading

    used = engine or default_engine()
    found = reference.image_file(arguments.path("path", path))
    string("platform", platform)
    options = loading.ImportOptions(
        reference.parse_new(name).familiar if string("name", name) else "",
        stem=loading.stem_of(found.path),
        platform=platforms.parse(platform) if platform else None,
        created_by=f"nbcontainer import {found.path.name}",
        select=found.select,
    )
    source = loading.open_file(used.store, found.path)
    try:
        return used.images.load(source, options)
    finally:
        os.close(source)


def save(image: str | Image, path: str | Path, *, engine: Engine | None = None) -> None:
    """Write an image of the store to an archive at `path` (host), for `load`, `docker load` and others.

    Raises `ImageNotFound`, `StoreError`.

    >>> save("busybox", "busybox.tar")
    >>> Path("busybox.tar").stat().st_size > 100_000
    True
    """
    used, place = engine or default_engine(), reference.host_path(arguments.path("path", path))
    found = used.images.find(arguments.image("image", image), pull=library.NEVER)
    if isinstance(image, Image):
        found = found.named(image.name)
    with held(used, found.name, found.digest, ()):
        used.images.save([found], place)


def remove_image(name: str | Image, *, engine: Engine | None = None) -> None:
    """Remove a name of an image, or of an `Image` its own; with the last name goes what nothing else uses.

    Raises `ImageNotFound`, also if another image has the name of an `Image` now.

    >>> with create("busybox") as box:
    ...     image = box.commit("copy")
    >>> remove_image("copy")
    >>> "copy" in [image.name for image in list_images()]
    False
    """
    used = engine or default_engine()
    word = name.name if isinstance(name, Image) else arguments.image("name", name)
    image = used.store.index.image(word if reference.is_digest(word) else reference.parse(word).familiar)
    if isinstance(name, Image) and image.digest != name.digest:
        hint = f"write remove_image({word!r}) to remove the image that has it now"
        raise ImageNotFound(f"the name '{word}' is that of another image now", hint=hint)
    used.store.index.drop_image(image.name)
    used.later(lambda: sweep(used))
