"""`--identity`: git in a container has the user's name and e-mail address, and nothing else of the home directory."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.identity import Identities, read_identity
from nbcontainer.containers.options import Identity
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.conftest import Notebook

CONFIG = (
    '[user]\n\tname = "Ann \\"A\\" O\'Hara"\n\temail = ann@example.org\n\tsigningkey = SECRET\n[alias]\n\tst = status\n'
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a configuration of git."""
    require("git", available=shutil.which("git") is not None)
    (tmp_path / ".gitconfig").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_identity_is_two_values_of_the_users_configuration(home: Path) -> None:
    """It is read again when the file changes, and is empty where there is none."""
    identities = Identities()
    assert identities.read() == Identity('Ann "A" O\'Hara', "ann@example.org")
    (home / ".gitconfig").write_text("[user]\n\tname = Bo\n")
    assert read_identity(True, identities) == Identity("Bo", "")
    (home / ".gitconfig").unlink()
    assert identities.read() == Identity()
    assert read_identity(False, identities) is None


def test_git_commits_as_the_user(notebook: Notebook, home: Path) -> None:
    """A configuration of the repository comes first, and nothing else of the user's is there."""
    script = (
        "git init -q /tmp/r && cd /tmp/r && echo text > a && git add a && git commit -qm first\n"
        "git log --format='%an <%ae>'; git config --get user.name; git config --get alias.st user.signingkey\n"
        "git config user.name Repo && git commit -q --allow-empty -m second && git log -1 --format=%an\n"
        "echo $USER $LANG"
    )
    said = notebook.good(f"%%container host --identity\n{script}").splitlines()
    assert said[:3] == ['Ann "A" O\'Hara <ann@example.org>', 'Ann "A" O\'Hara', "Repo"]
    assert said[3].startswith("root ")
    assert "gitconfig" not in str(notebook.run("%container diff").value)
    (home / ".gitconfig").unlink()
    ran = notebook.run("%%container host --identity\ngit config --get user.name")
    assert "git has no identity here" in ran.stderr


def test_cells_of_host_are_bashs(notebook: Notebook) -> None:
    """Words of bash run as they would in `%%bash`."""
    script = "[[ abc == a* ]] && echo yes; names=(x y z); echo ${names[1]}; diff <(seq 3) <(seq 3) && echo {1..3}"
    assert notebook.good(f"%%container host\n{script}") == "yes\ny\n1 2 3\n"


@pytest.fixture
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook without proxies and certificates."""
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", *_BUNDLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("_no_variables")
def test_a_private_network_has_the_notebooks_proxies(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `host` with a private network, and nowhere else; one line says so, once, and `-e` comes first."""
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    assert notebook.good("%%container host\necho [$https_proxy]") == "[]\n"
    show = "%%container host --network private\necho [$https_proxy$HTTP_PROXY]"
    first, second = notebook.run(show), notebook.run(show)
    assert first.stdout == second.stdout == "[http://proxy.example.org:3128]\n"
    (line,) = first.stderr.splitlines()
    assert line.startswith("nbcontainer: this cell has the notebook's https_proxy; HTTP_PROXY stayed outside, with an ")
    assert "which only `--network host` reaches" in line
    assert second.stderr == ""
    own = notebook.run("%%container host --network private -e https_proxy=mine\necho [$https_proxy]")
    assert own.stdout == "[mine]\n"


_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


@pytest.mark.usefixtures("_no_variables")
def test_a_private_network_has_the_notebooks_certificates(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """A file in the home directory, which `host` does not show, is there to read; a key and a directory stay out."""
    (home / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    (home / "key.pem").write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")
    (home / "key.pem").chmod(0o600)
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(home / "ca.pem"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(home / "key.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(home))
    ran = notebook.run(
        "%%container host --network private\n"
        "head -n 1 $SSL_CERT_FILE; echo [$CURL_CA_BUNDLE$SSL_CERT_DIR]\n"
        "(echo > $REQUESTS_CA_BUNDLE) 2>/dev/null || echo read-only"
    )
    assert ran.stdout == "-----BEGIN CERTIFICATE-----\n[]\nread-only\n"
    assert "the notebook's REQUESTS_CA_BUNDLE and SSL_CERT_FILE; CURL_CA_BUNDLE and SSL_CERT_DIR stayed" in ran.stderr
    assert (home / "ca.pem").read_text().startswith("-----BEGIN")
