"""Image files to and from podman, skopeo and umoci."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.commit import export
from nbcontainer.images import library
from tests.interop.conftest import run
from tests.requirements import require, require_root
from tests.running import run_script
from tests.unit.images.tars import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.conftest import Ours, Podman
    from tests.unit.images.tars import Node

SAID = ["hello", "33", "/app", "text"]


def merged(ours: Ours, name: str, place: Path) -> dict[bytes, Node]:
    """The merged tree of an image of the store, unpacked below `place` by GNU tar."""
    tree = place / "merged"
    tree.mkdir()
    export(ours.engine, ours.engine.images.lowers(ours.image(name)), place / "merged.tar")
    run("tar", "-C", tree, "-xpf", place / "merged.tar", "--numeric-owner", "--xattrs", "--xattrs-include=*")
    return snapshot(tree)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_podman_saves_runs_here(podman: Podman, built: str, ours: Ours, tmp_path: Path, form: str) -> None:
    """An image that podman saved, in each of its forms, runs here as its configuration says."""
    target = tmp_path / form
    podman("save", "--format", form, "-o", target, built)
    assert ours("load", target).startswith(built)
    ran = run_script(ours.engine, None, image=built)
    assert ran.lines == SAID
    config = ours.image(built).config
    assert (config.labels["colour"], config.other["StopSignal"]) == ("green", "SIGINT")


def test_an_archive_is_an_image_by_its_path(podman: Podman, built: str, ours: Ours, tmp_path: Path) -> None:
    """An image in a file, and in a layout directory, runs by its path, and is brought in once."""
    podman("save", "--format", "oci-archive", "-o", tmp_path / "image.tar", built)
    podman("save", "--format", "oci-dir", "-o", tmp_path / "layout", built)
    for path in (tmp_path / "image.tar", tmp_path / "layout"):
        assert run_script(ours.engine, None, image=str(path)).lines == SAID
        before = ours.engine.store.index.images()
        assert run_script(ours.engine, None, image=str(path)).lines == SAID
        assert ours.engine.store.index.images() == before


def test_several_images_of_podman(podman: Podman, built: str, fresh: Ours, tmp_path: Path) -> None:
    """Both images of an archive come in, and the layer they share once."""
    podman("save", "-m", "-o", tmp_path / "both.tar", built, "localhost/base:1")
    fresh("load", tmp_path / "both.tar")
    assert set(fresh.engine.store.index.images()) == {built, "localhost/base:1"}
    assert len(list((fresh.engine.store.path / "layers/sha256").iterdir())) == 3


@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
def test_what_is_saved_here_runs_in_podman(podman: Podman, fresh: Ours, tmp_path: Path, compress: str) -> None:
    """One archive serves podman, which takes it for docker's, and skopeo, which reads it as OCI's and as docker's."""
    run_script(fresh.engine, "echo kept > /kept", name="box")
    name = f"localhost/ours:{compress}"
    fresh("commit", "box", name, "--change", 'CMD ["cat", "/kept"]')
    target = tmp_path / "ours.tar"
    fresh("save", name, "-o", target, "--compress", compress)
    podman("load", "-i", target)
    assert podman("run", "--rm", "--network", "none", name) == "kept\n"
    require("skopeo")
    for transport in ("oci-archive", "docker-archive"):
        seen = json.loads(run("skopeo", "inspect", f"{transport}:{target}"))
        assert len(seen["Layers"]) == 2
    if compress == "none":
        assert json.loads(run("skopeo", "inspect", f"oci-archive:{target}"))["Digest"] == fresh.image(name).digest


def test_the_store_is_a_layout(fresh: Ours, tmp_path: Path) -> None:
    """skopeo reads the store itself, agrees on digests, and copies from it without a change."""
    require("skopeo")
    fresh.engine.images.find("busybox", pull=library.NEVER)
    source = f"oci:{fresh.engine.store.path}:busybox"
    assert json.loads(run("skopeo", "inspect", source))["Digest"] == fresh.image("busybox").digest
    run("skopeo", "copy", "--preserve-digests", source, f"oci:{tmp_path}/copy:1")
    assert fresh("load", tmp_path / "copy").startswith(f"copy:1  {fresh.image('busybox').digest}")


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_umoci_unpacks_the_same_tree(podman: Podman, built: str, fresh: Ours, tmp_path: Path, compress: str) -> None:
    """What umoci unpacks of an image is our own merged tree: types, modes, owners, times, xattrs, links, contents."""
    require("umoci")
    require_root()
    podman("save", "--format", "oci-archive", "-o", tmp_path / "image.tar", built)
    fresh("load", tmp_path / "image.tar")
    script = (
        "mkdir /data && echo x > /data/x && ln /data/x /data/y && chown 5:6 /data/x && touch -d @1000000000 /data/x"
        " && rm -r /var/spool && mkdir /var/spool && mv /app /moved && truncate -s 1M /data/sparse"
    )
    run_script(fresh.engine, script, image=built, name="box", user="0")
    fresh("commit", "box", "ours:1")
    fresh("save", "ours:1", "-o", f"{tmp_path}/layout/", "--compress", compress)
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
    theirs, mine = snapshot(tmp_path / "bundle" / "rootfs"), merged(fresh, "ours:1", tmp_path)
    assert theirs.keys() == mine.keys()
    for path, node in mine.items():
        if path not in (b"", b"."):  # the root itself has the time of the unpacking
            assert replace(theirs[path], device=node.device) == node, path


def test_a_layout_takes_more_images(fresh: Ours, tmp_path: Path) -> None:
    """An image is added to a layout that is there, beside the others, and its blobs are not written again."""
    require("skopeo")
    fresh.engine.images.find("busybox", pull=library.NEVER)
    fresh("tag", "busybox", "other:2")
    layout = tmp_path / "layout"
    fresh("save", "busybox", "-o", f"{layout}/")
    blobs = {path: path.stat().st_ino for path in (layout / "blobs/sha256").iterdir() if path.stat().st_size > 10_000}
    fresh("save", "other:2", "-o", f"{layout}/")
    assert {path: path.stat().st_ino for path in blobs} == blobs
    for tag in ("latest", "2"):
        assert json.loads(run("skopeo", "inspect", f"oci:{layout}:{tag}"))["Digest"] == fresh.image("other:2").digest


def test_the_same_image_is_the_same_archive(fresh: Ours, tmp_path: Path) -> None:
    """An archive depends on nothing but the images in it."""
    fresh.engine.images.find("busybox", pull=library.NEVER)
    for name in ("a.tar", "b.tar"):
        fresh("save", "busybox", "-o", tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_docker_archives_go_both_ways(fresh: Ours, tmp_path: Path) -> None:
    """What skopeo makes of our archive as docker's own comes back with the same layers."""
    require("skopeo")
    fresh.engine.images.find("busybox", pull=library.NEVER)
    fresh("save", "busybox", "-o", tmp_path / "ours.tar")
    run("skopeo", "copy", f"docker-archive:{tmp_path}/ours.tar", f"docker-archive:{tmp_path}/theirs.tar:came/back:1")
    fresh("load", tmp_path / "theirs.tar")
    assert fresh.image("came/back:1").layers[0].diff_id == fresh.image("busybox").layers[0].diff_id
    assert fresh.image("came/back:1").config == fresh.image("busybox").config


def test_the_same_script_leaves_the_same_tree_in_podman(
    podman: Podman, built: str, fresh: Ours, tmp_path: Path
) -> None:
    """One script on one image leaves the same tree here and in podman, to the byte, the owner and the mode."""
    podman("save", "--format", "oci-archive", "-o", tmp_path / "image.tar", built)
    fresh("load", tmp_path / "image.tar")
    script = """set -e
    mkdir -p /data/deep && echo x > /data/x && ln /data/x /data/y && ln -s ../x /data/deep/link && mkfifo /data/pipe
    chown 5:6 /data/x && chmod 2751 /data/deep && truncate -s 1M /data/sparse && printf 'a\\0b' > /data/bytes
    rm -r /var/spool /bin/vi && mkdir /var/spool && mv /app /moved && cp -a /moved /copied
    sed -i s/text/new/ /moved/file
    touch "/data/$(printf 'odd\\nname')" && id -u > /data/id && id -g >> /data/id && umask > /data/umask
    pwd > /data/pwd
    find /data /moved /copied /var/spool -exec touch -h -d @1000000000 {} +
    """
    run_script(fresh.engine, script, image=built, name="box", user="0")
    fresh("export", "box", "-o", tmp_path / "ours.tar")
    words = ("--user", "0", "--network", "none", "--security-opt", "no-new-privileges")
    podman("run", "--name", "same-script", *words, built, "sh", "-c", script)
    podman("export", "-o", tmp_path / "theirs.tar", "same-script")
    podman("rm", "same-script")
    found = []
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        run("tar", "-C", tmp_path / name, "-xpf", tmp_path / f"{name}.tar", "--numeric-owner")
        found.append(snapshot(tmp_path / name))
    mine, theirs = found
    # What podman puts into a container's own root beside the image's.
    added = {b"etc/hosts", b"etc/resolv.conf", b"etc/hostname", b"run/.containerenv", b"run/secrets", b"etc/mtab"}
    changed = {
        b".",
        b"",
        b"etc",
        b"var",
        b"bin",
        b"run",
        b"dev",
        b"proc",
        b"sys",
    }  # by the script, or by runtimes: their times
    assert mine.keys() - added == theirs.keys() - added
    for path, node in mine.items():
        if path not in added:
            other = replace(theirs[path], mtime=node.mtime) if path in changed else theirs[path]
            assert other == node, path
