"""Names of images: what people write, and what is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.oci import reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "canonical", "familiar"),
    [
        # The registry, the owner and the tag are filled in as docker does.
        ("busybox", "docker.io/library/busybox:latest", "busybox"),
        ("busybox:latest", "docker.io/library/busybox:latest", "busybox"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim", "python:3.12-slim"),
        ("owner/name", "docker.io/owner/name:latest", "owner/name"),
        ("a/b/c:1", "docker.io/a/b/c:1", "a/b/c:1"),
        # What is filled in may be written out.
        ("docker.io/library/x", "docker.io/library/x:latest", "x"),
        ("docker.io/x", "docker.io/library/x:latest", "x"),
        ("library/x", "docker.io/library/x:latest", "x"),
        ("index.docker.io/owner/x:1", "docker.io/owner/x:1", "owner/x:1"),
        ("registry-1.docker.io/library/x", "docker.io/library/x:latest", "x"),
        # A first part with a dot, a port or a capital, or localhost, is a registry.
        ("ghcr.io/o/n:t", "ghcr.io/o/n:t", "ghcr.io/o/n:t"),
        ("ghcr.io/library/n", "ghcr.io/library/n:latest", "ghcr.io/library/n"),
        ("localhost/x", "localhost/x:latest", "localhost/x"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x"),
        ("host:5000/x:5000", "host:5000/x:5000", "host:5000/x:5000"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x"),
        ("Registry/x", "Registry/x:latest", "Registry/x"),
        # One without is an owner, and a number after a colon is a tag.
        ("registry/x", "docker.io/registry/x:latest", "registry/x"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        # A digest stands for itself: no tag is added to it, one that is there stays.
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"ghcr.io/o/n:t@{DIGEST}", f"ghcr.io/o/n:t@{DIGEST}", f"ghcr.io/o/n:t@{DIGEST}"),
        (f"localhost:5000/x@{DIGEST}", f"localhost:5000/x@{DIGEST}", f"localhost:5000/x@{DIGEST}"),
        # Separators: one dot, one or two underscores, any number of dashes.
        ("a.b_c__d-e--f", "docker.io/library/a.b_c__d-e--f:latest", "a.b_c__d-e--f"),
        ("x:_T.a-G", "docker.io/library/x:_T.a-G", "x:_T.a-G"),
    ],
)
def test_a_name_means_what_docker_means(written: str, canonical: str, familiar: str) -> None:
    """A name is filled in as docker does, and shown in its short form, which means the same again."""
    found = reference.parse(written)
    assert found.canonical == canonical
    assert str(found) == familiar
    assert reference.parse(familiar) == found
    assert reference.parse(canonical) == found


@pytest.mark.parametrize(
    "written",
    [
        "",
        "Busybox",
        "UPPER/Case",
        "a//b",
        "/a",
        "a/",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a b",
        "a\n",
        "x:",
        "x:-tag",
        "x:" + "t" * 129,
        "x@",
        "x@sha256:" + "0" * 63,
        "x@sha256:" + "A" * 64,
        "x@sha512:" + "0" * 128,
        "host:port/x",
        "http://host/x",
        "a:1:2",
        "é",
    ],
)
def test_what_is_no_name_is_refused(written: str) -> None:
    """A word outside the grammar is an error that names the word."""
    with pytest.raises(UsageError, match=r"invalid image name .*; \w"):
        reference.parse(written)


def test_a_long_name_is_refused() -> None:
    """A name longer than registries take is refused before one is asked."""
    longest = 255 - len("host.io")
    assert reference.parse("host.io/" + "a" * longest).path == "a" * longest
    with pytest.raises(UsageError, match="longer than 255"):
        reference.parse("host.io/a" + "a" * longest)


def test_a_registrys_transport_may_stand_before_a_name() -> None:
    """skopeo's and podman's `docker://` names the same image, also if it ends like a file."""
    for name in ("busybox:1", "ghcr.io/o/n", f"x@{DIGEST}"):
        assert reference.parse(f"docker://{name}") == reference.parse(name)
    assert not reference.is_path("docker://ghcr.io/o/n.tar")
    for name in ("docker:///busybox", "docker://"):
        with pytest.raises(UsageError, match="leave docker:// out"):
            reference.parse(name)
    with pytest.raises(UsageError, match="leave https:// out, as in busybox:1"):
        reference.parse("https://busybox:1")


@pytest.mark.parametrize(
    ("text", "path", "select"),
    [
        ("oci:dir", "dir", ""),
        ("oci:./dir:1.0", "dir", "1.0"),
        ("oci-archive:/a/b.tar:latest", "/a/b.tar", "latest"),
        ("docker-archive:b.tar:ghcr.io/o/n:t", "b.tar", "ghcr.io/o/n:t"),
        ("docker-archive:b.tar:@1", "b.tar", "@1"),
        ("./a.tar", "a.tar", ""),
    ],
)
def test_a_files_transport_names_a_file_and_an_image_in_it(text: str, path: str, select: str) -> None:
    """As containers-transports(5) has it; such a name is no image's own."""
    assert reference.is_path(text)
    assert reference.image_file(text) == reference.ImageFile(Path(path), select)
    if ":" in text:
        with pytest.raises(UsageError):
            reference.parse_new(text)


@pytest.mark.parametrize("text", ["oci:", "oci-archive::x", "docker-archive:"])
def test_a_transport_without_a_file_is_refused(text: str) -> None:
    """It names no path."""
    with pytest.raises(UsageError, match="invalid path ''"):
        reference.image_file(text)


@pytest.mark.parametrize("text", ["docker-daemon:busybox:1", "docker-daemon:busybox", "containers-storage:busybox"])
def test_another_programs_storage_is_not_read(text: str) -> None:
    """The way is a file."""
    with pytest.raises(UsageError, match="save the image to a file, as with `docker save NAME -o FILE`"):
        reference.parse(text)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("./x", True),
        ("../x", True),
        ("/x", True),
        ("~/x", True),
        ("layout/", True),
        (".", True),
        ("image.tar", True),
        ("image.tar.zst", True),
        ("image.tgz", True),
        ("busybox", False),
        ("a/b", False),
        ("python:3.12-slim", False),
        ("a.tar/b", False),
    ],
)
def test_paths_and_names_are_told_apart(word: str, path: object) -> None:
    """A word is a path where it begins like one or ends like an archive or a directory, and else a name."""
    assert reference.is_path(word) is path


def test_a_digest_alone_is_known() -> None:
    """A whole digest is told from names, which it could be by its letters."""
    assert reference.is_digest(DIGEST)
    assert not reference.is_digest(f"x@{DIGEST}")
    assert not reference.is_digest(DIGEST[:-1])


def test_a_home_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a path is the home directory, and an unknown user's is an error."""
    monkeypatch.setenv("HOME", "/home/me")
    assert reference.host_path("~/x.tar") == Path("/home/me/x.tar")
    with pytest.raises(UsageError, match="no such user"):
        reference.host_path("~nobody-has-this-name/x")
