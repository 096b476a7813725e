"""debootstrap's Debian with Python goes in, is added to by apt and pip, is committed, goes out, and runs in podman."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.debian import debian_tar, network_options
from tests.interop.conftest import run
from tests.requirements import require
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.conftest import Ours, Podman

INSTALL = """
set -e
apt-get update -q
apt-get install -y -q --no-install-recommends python3-pip
"""
PIP = "pip install -q --disable-pip-version-check six && python3 -c 'import six; print(six.__file__)'"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> Iterator[Ours]:
    """A store with image `debian:with-pip`, in which cells have installed a Debian package and a Python package."""
    from nbcontainer.containers.engine import Engine
    from tests.interop.conftest import Ours

    require("namespaces", available=not _containers_work, why=_containers_work)
    engine = Engine(tmp_path_factory.mktemp("debian") / "store")
    if engine.single_id:
        pytest.skip("apt wants a second user")
    ours = Ours(engine)
    ours("import", debian_tar(), "debian:plain")
    for script in (INSTALL, PIP):
        ran = run_script(engine, script, image="debian:plain", name="box", **network_options())
        assert ran.outcome.ok, ran.stdout[-2000:] + ran.stderr[-2000:]
    ours("commit", "box", "debian:with-pip", "--change", 'CMD ["python3", "-c", "import six; print(six.__name__)"]')
    yield ours
    engine.close()


def test_what_was_installed_is_in_the_image(installed: Ours) -> None:
    """A fresh container of the committed image has both, as files of root's, without a network."""
    ran = run_script(
        installed.engine,
        "dpkg-query -W -f '${Status}\\n' python3-pip; pip show six | head -1; dpkg --verify python3-pip && echo whole",
        image="debian:with-pip",
    )
    assert ran.lines == ["install ok installed", "Name: six", "whole"]


def test_the_committed_debian_runs_in_podman(installed: Ours, podman: Podman, tmp_path: Path) -> None:
    """Saved as an archive, loaded by podman, and run there by its own command, without a network."""
    target = tmp_path / "debian.tar"
    installed("save", "debian:with-pip", "-o", target)
    podman("load", "-i", target)
    assert podman("run", "--rm", "--network", "none", "docker.io/library/debian:with-pip") == "six\n"


def test_the_exported_debian_runs_in_podman(installed: Ours, podman: Podman, tmp_path: Path) -> None:
    """The tar of the merged tree is a root file system: podman imports it, and both packages are there."""
    target = tmp_path / "merged.tar"
    installed("export", "debian:with-pip", "-o", target)
    podman("import", target, "localhost/debian:merged")
    program = "import six, pip; print(six.__name__, pip.__name__)"
    said = podman("run", "--rm", "--network", "none", "localhost/debian:merged", "python3", "-c", program)
    assert said == "six pip\n"


def test_skopeo_agrees_on_the_committed_debian(installed: Ours) -> None:
    """skopeo reads it from the store, whoever the user is: the base's layer, and one for each cell."""
    require("skopeo")
    seen = json.loads(run("skopeo", "inspect", f"oci:{installed.engine.store.path}:debian:with-pip"))
    image = installed.image("debian:with-pip")
    assert seen["Digest"] == image.digest
    assert seen["Layers"] == [layer.blob.digest for layer in image.layers]
    assert len(seen["Layers"]) == 3
