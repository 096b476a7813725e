"""Who we are to a registry, where it is, and what it asks for."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nbcontainer.errors import RegistryError
from nbcontainer.images.registry import challenge, credentials
from nbcontainer.images.registry.challenge import Challenge
from nbcontainer.images.registry.credentials import Credentials
from nbcontainer.images.registry.endpoints import Endpoint, endpoints, is_loopback
from nbcontainer.oci import reference


def test_a_pipe_in_the_place_of_settings_is_not_waited_for(tmp_path: Path) -> None:
    """A container that has the home directory as a volume cannot stop a pull by a pipe, a device or a large file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 25)
    files = [tmp_path / name for name in ("pipe", "link", "large", "missing")]
    assert credentials.find("localhost:5000", "a/b", files) is None
    for path in files[:3]:
        with pytest.raises(RegistryError, match=f"cannot read {path}"):
            endpoints(reference.parse("localhost:5000/a/b"), files=[path])


def test_settings_may_be_a_link_or_a_descriptor(tmp_path: Path) -> None:
    """A link to a file of the user's is followed, and /dev/fd/N is that descriptor, also if it is a pipe."""
    document = {"auths": {"localhost:5000": auth("me:secret")}}
    (tmp_path / "link").symlink_to(written(tmp_path / "auth.json", document))
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w") as pipe:
        pipe.write(json.dumps(document))
        pipe.flush()
        pipe.close()
        for path in (tmp_path / "link", Path(f"/dev/fd/{reader}")):
            found = credentials.find("localhost:5000", "a/b", [path])
            assert found is not None
            assert found.user == "me"


def auth(text: str) -> dict[str, str]:
    """An entry as `docker login` writes it."""
    return {"auth": base64.b64encode(text.encode()).decode()}


def written(path: Path, document: Any) -> Path:
    """A file with a JSON document."""
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("auths", "host", "path", "user"),
    [
        ({"r.io": auth("me:x")}, "r.io", "a/b", "me"),
        ({"r.io": auth("me:x")}, "other.io", "a/b", None),
        ({"https://r.io/v2/": auth("me:x")}, "r.io", "a/b", "me"),
        ({"https://index.docker.io/v1/": auth("me:x")}, "docker.io", "library/x", "me"),
        ({"docker.io": auth("me:x")}, "docker.io", "library/x", "me"),
        ({"r.io:5000": auth("me:x")}, "r.io", "a/b", None),
        # The nearest name above the repository comes first.
        ({"r.io": auth("far:x"), "r.io/a": auth("near:x"), "r.io/a/c": auth("no:x")}, "r.io", "a/b", "near"),
        ({"r.io/a/b": auth("whole:x"), "r.io/a": auth("near:x")}, "r.io", "a/b", "whole"),
        ({"r.io/a": auth("no:x")}, "r.io", "ab/c", None),
        # Old forms.
        ({"r.io": {"username": "me", "password": "x"}}, "r.io", "a", "me"),
        ({"r.io": {}}, "r.io", "a", None),
    ],
)
def test_credentials_are_found_by_name(
    tmp_path: Path, auths: dict[str, Any], host: str, path: str, user: str | None
) -> None:
    """Credentials are those of the repository's own host, and of nobody else's."""
    found = credentials.find(host, path, [written(tmp_path / "auth.json", {"auths": auths})])
    assert (found.user if found else None) == user


@pytest.mark.parametrize(
    ("runtime", "file"),
    [("/run/user/7", "/run/user/7/containers/auth.json"), ("", f"/run/containers/{os.getuid()}/auth.json")],
)
def test_the_file_of_podman_login_comes_first(runtime: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a runtime directory podman uses /run/containers and the user (containers-auth.json(5))."""
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert credentials.credential_files()[0] == Path(file)


def test_a_password_may_have_colons(tmp_path: Path) -> None:
    """Only the first colon ends the name; and nobody prints the rest by accident."""
    file = written(tmp_path / "auth.json", {"auths": {"r.io": auth("me:a:b")}})
    found = credentials.find("r.io", "a", [file])
    assert found is not None
    assert (found.user, found.password) == ("me", "a:b")
    assert "a:b" not in repr(found)
    assert found.basic == "Basic " + base64.b64encode(b"me:a:b").decode()


def test_an_identity_token(tmp_path: Path) -> None:
    """A token in place of a password is known as one."""
    file = written(tmp_path / "auth.json", {"auths": {"r.io": {"identitytoken": "t"}}})
    assert credentials.find("r.io", "a", [file]) == Credentials(identity="t")


def test_the_first_file_that_knows_wins(tmp_path: Path) -> None:
    """Files are asked in order, and one that is not there or knows nobody is passed over."""
    files = [
        tmp_path / "missing.json",
        written(tmp_path / "1.json", {"auths": {"other.io": auth("no:x")}}),
        written(tmp_path / "2.json", {"auths": {"r.io": auth("first:x")}}),
        written(tmp_path / "3.json", {"auths": {"r.io": auth("second:x")}}),
    ]
    found = credentials.find("r.io", "a", files)
    assert found is not None
    assert found.user == "first"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"auths": []}', '{"auths": {"r.io": {"auth": "?"}}}', '{"auths": {"r.io": {"auth": "bWU="}}}'],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    """A file that cannot be read is an error with its path, not nobody's credentials."""
    file = tmp_path / "auth.json"
    file.write_text(text)
    with pytest.raises(RegistryError, match=r"auth\.json"):
        credentials.find("r.io", "a", [file])


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper called `fake` on PATH; what it is asked for is in the file `asked`."""
    program = tmp_path / "bin" / "docker-credential-fake"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
read host
echo "$1 $host" >> {tmp_path}/asked
case "$host" in
  r.io|https://index.docker.io/v1/) echo '{{"ServerURL": "x", "Username": "me", "Secret": "from helper"}}' ;;
  token.io) echo '{{"Username": "<token>", "Secret": "t"}}' ;;
  odd.io) echo 'no' ;;
  locked.io) echo 'the keychain is locked'; exit 1 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("r.io", Credentials("me", "from helper")),
        ("docker.io", Credentials("me", "from helper")),
        ("token.io", Credentials(identity="t")),
        ("nobody.io", None),
    ],
)
def test_the_store_of_credentials_is_asked(helper: Path, host: str, found: Credentials | None) -> None:
    """`credsStore` is asked for the registry's name, and may know nobody."""
    file = written(helper / "config.json", {"credsStore": "fake", "auths": {"r.io": {}}})
    assert credentials.find(host, "a/b", [file]) == found


def test_a_helper_of_one_host_is_asked(helper: Path) -> None:
    """`credHelpers` is asked for its own host alone."""
    file = written(helper / "config.json", {"credHelpers": {"r.io": "fake"}})
    assert credentials.find("r.io", "a", [file]) == Credentials("me", "from helper")
    assert credentials.find("other.io", "a", [file]) is None
    assert (helper / "asked").read_text() == "get r.io\n"


@pytest.mark.parametrize(
    ("name", "host", "message"),
    [
        ("missing", "r.io", "cannot run docker-credential-missing"),
        ("../../bin/sh", "r.io", "invalid name .* of a credential helper"),
        ("fake", "odd.io", "printed no valid credentials"),
        ("fake", "locked.io", "the keychain is locked"),
    ],
)
def test_a_helper_that_fails_is_named(helper: Path, name: str, host: str, message: str) -> None:
    """A helper that cannot be asked is an error: without it the registry would only say that we may not."""
    file = written(helper / "config.json", {"credsStore": name})
    with pytest.raises(RegistryError, match=message):
        credentials.find(host, "a", [file])


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (
            'Bearer realm="https://a/token",service="a",scope="repository:x:pull"',
            Challenge("bearer", {"realm": "https://a/token", "service": "a", "scope": "repository:x:pull"}),
        ),
        ('Basic realm="a registry"', Challenge("basic", {"realm": "a registry"})),
        ("bearer realm=https://a/token", Challenge("bearer", {"realm": "https://a/token"})),
        ('Basic realm="a", Bearer realm="b"', Challenge("bearer", {"realm": "b"})),
        (
            'Bearer realm="a \\"quoted\\" word, with comma"',
            Challenge("bearer", {"realm": 'a "quoted" word, with comma'}),
        ),
        ('Negotiate, Basic realm="a"', Challenge("basic", {"realm": "a"})),
        ("Digest nonce=1", None),
        ("", None),
        ('="', None),
    ],
)
def test_challenges(header: str, chosen: Challenge | None) -> None:
    """A bearer's challenge comes before a basic one, and no other is answered."""
    assert challenge.choose(header) == chosen


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.8.9.1:80", True),
        ("[::1]:5000", True),
        ("a.localhost", True),
        ("localhost.example", False),
        ("10.0.0.1:5000", False),
        ("example.org", False),
    ],
)
def test_only_loopback_may_be_plain(host: str, loopback: object) -> None:
    """Plain http is for this machine itself, whatever a name looks like."""
    assert is_loopback(host) is loopback
    (found,) = endpoints(reference.parse(f"{host}/x" if host != "localhost" else "localhost/x"), [])
    assert found.insecure is loopback


def test_docker_hub_is_elsewhere() -> None:
    """Names of docker.io are asked for at its registry's own host."""
    (found,) = endpoints(reference.parse("busybox"), [])
    assert (found.host, found.address, found.path) == ("docker.io", "registry-1.docker.io", "library/busybox")


@pytest.mark.parametrize(
    ("conf", "name", "expected"),
    [
        ('[[registry]]\nlocation="r.io"\ninsecure=true', "r.io/x", [Endpoint("r.io", "x", insecure=True)]),
        ('[[registry]]\nlocation="r.io"\ninsecure=true', "r.io.evil/x", [Endpoint("r.io.evil", "x")]),
        ('[[registry]]\nprefix="r.io/a"\nlocation="s.io/b"', "r.io/a/x", [Endpoint("s.io", "b/x")]),
        ('[[registry]]\nprefix="r.io/a"\nlocation="s.io/b"', "r.io/ab/x", [Endpoint("r.io", "ab/x")]),
        (
            '[[registry]]\nprefix="r.io"\nlocation="no.io"\n[[registry]]\nprefix="r.io/a"\nlocation="s.io"',
            "r.io/a/x",
            [Endpoint("s.io", "x")],
        ),
        ('[[registry]]\nprefix="*.r.io"\ninsecure=true', "a.r.io/x", [Endpoint("a.r.io", "x", insecure=True)]),
        ('[[registry]]\nprefix="*.r.io"\ninsecure=true', "r.io/x", [Endpoint("r.io", "x")]),
        (
            '[[registry]]\nlocation="docker.io"\n[[registry.mirror]]\nlocation="m.io/hub"',
            "busybox",
            [Endpoint("m.io", "hub/library/busybox"), Endpoint("docker.io", "library/busybox")],
        ),
        ('unqualified-search-registries = ["r.io"]', "busybox", [Endpoint("docker.io", "library/busybox")]),
    ],
)
def test_registries_conf(tmp_path: Path, conf: str, name: str, expected: list[Endpoint]) -> None:
    """Mirrors, other places and plain http are what registries.conf says, for the longest prefix that fits."""
    path = tmp_path / "registries.conf"
    path.write_text(conf)
    assert list(endpoints(reference.parse(name), [path])) == expected
    assert len(endpoints(reference.parse(name), [path], push=True)) == 1


def test_a_later_file_replaces_rules(tmp_path: Path) -> None:
    """A rule of a drop-in file replaces the one with the same prefix of the main file, and leaves the others."""
    main, later = tmp_path / "registries.conf", tmp_path / "10-block.conf"
    main.write_text('[[registry]]\nlocation="r.io"\n[[registry]]\nprefix="s.io"\nlocation="t.io"')
    later.write_text('[[registry]]\nprefix="r.io"\nblocked=true')
    with pytest.raises(RegistryError, match="is blocked"):
        endpoints(reference.parse("r.io/x"), [main, later])
    assert endpoints(reference.parse("r.io/x"), [later, main]) == (Endpoint("r.io", "x"),)
    assert endpoints(reference.parse("s.io/x"), [main, later]) == (Endpoint("t.io", "x"),)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ('[[registry]]\nlocation="r.io"\nblocked=true', "is blocked"),
        ("[[registry", "cannot read .*registries.conf"),
        ('[[registry]]\nprefix="r.io"\nlocation="http://s.io"', "invalid location"),
    ],
)
def test_registries_conf_that_says_no(tmp_path: Path, conf: str, message: str) -> None:
    """A blocked registry, and a file with a mistake, are errors."""
    path = tmp_path / "registries.conf"
    path.write_text(conf)
    with pytest.raises(RegistryError, match=message):
        endpoints(reference.parse("r.io/x"), [path])
