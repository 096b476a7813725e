"""What an item of `map` leaves for the notebook, as an attacker makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import ImageError, Result, ValueUnavailable
from nbcontainer.containers.engine import set_default_engine
from nbcontainer.mapping import worker
from nbcontainer.mapping.portable_image import BlobSource
from nbcontainer.oci import descriptors
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine


@pytest.fixture(autouse=True)
def _default(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's engine is the default one."""
    monkeypatch.setenv("NBCONTAINER_HOME", str(engine.store.path))
    set_default_engine(engine)
    yield
    set_default_engine(None)


def left(script: str, *files: str) -> Any:
    """The answer of one item that leaves files."""
    (answer,) = nbcontainer.map("busybox", ["sh", "-c", script], [""], files=files)
    return answer


LEFT = {
    "link": "ln -s {secret} /f",
    "link through links": "ln -s {secret} /a; ln -s /a /f",
    "relative link": "ln -s ../../../../../../../..{secret} /f",
    "link on the way": "ln -s {directory} /d; ln -s /d/secret.txt /f",
    "magic link": "ln -s /proc/self/root{secret} /f",
    "another process": "ln -s /proc/1/root{secret} /f",
    "pipe": "mkfifo /f",
    "device": "mknod /f c 1 5 || mkfifo /f",
    "link to itself": "ln -s /f /f",
}
# A link points to a path of the container, where the secret is not. These are there, and are not read.
UNREADABLE = {
    "pipe": "not a regular file",
    "device": "not a regular file",
    "link to itself": "Too many levels of symbolic links",
}


@pytest.mark.parametrize("name", LEFT)
def test_a_returned_file_is_the_containers_own(tmp_path: Path, name: str) -> None:
    """`files` reads nothing of the host, and waits for nothing: the error says what is at the path."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    answer = left(LEFT[name].format(secret=secret, directory=tmp_path), "/f")
    assert isinstance(answer, ValueUnavailable)
    assert UNREADABLE.get(name, "left no file /f") in str(answer)


@pytest.mark.parametrize("name", LEFT)
def test_a_returned_directory_has_no_links(tmp_path: Path, name: str) -> None:
    """Of a directory, only regular files return."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    script = f"mkdir /w; {LEFT[name].format(secret=secret, directory=tmp_path)}; mv /f /w/f; echo x > /w/own"
    answer = left(script, "/w")
    assert isinstance(answer, Result)
    assert answer.files == {"/w/own": b"x\n"}


def test_sizes_names_and_depth_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 2 GiB, a path of a thousand directories and endless output are one-line errors."""
    assert "too large together" in str(left("truncate -s 2G /f", "/f"))
    script = "mkdir /d; cd /d; n=0; while [ $n -lt 1000 ]; do mkdir dddddddd; cd dddddddd; n=$((n+1)); done; echo > x"
    assert "too long" in str(left(script, "/d"))
    monkeypatch.setattr(worker, "OUTPUT_LIMIT", 4 << 20)
    answer = left("yes")
    assert isinstance(answer, ValueUnavailable)
    assert "wrote more than 4 MiB" in str(answer)


def test_blobs_that_come_with_a_task_are_checked() -> None:
    """A document with another digest is refused; layers are hashed when they enter the store."""
    blob = descriptors.Descriptor(oci.MANIFEST, descriptors.digest_of(b"good"), 4)
    assert BlobSource({blob.digest: b"good"}).document(blob) == b"good"
    with pytest.raises(ImageError, match="has the digest"):
        BlobSource({blob.digest: b"evil"}).document(blob)
    with pytest.raises(ImageError, match="was not sent"):
        BlobSource({}).document(blob)
