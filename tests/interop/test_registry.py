"""Images to and from a real registry, with podman and skopeo at the other end."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import RegistryError
from nbcontainer.images import library
from tests.interop.conftest import run
from tests.requirements import require
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.conftest import Ours, Podman, Registry

SAID = ["hello", "33", "/app", "text"]


@pytest.fixture
def committed(ours: Ours) -> str:
    """The name of an image that was committed here."""
    run_script(ours.engine, "echo kept > /kept", name="registry-box")
    ours("commit", "registry-box", "ours:1", "--change", 'CMD ["cat", "/kept"]')
    ours("rm", "registry-box")
    return "ours:1"


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_what_podman_pushed_runs_here(podman: Podman, built: str, fresh: Ours, registry: Registry, form: str) -> None:
    """An image that podman pushed, in OCI's form and in docker's, is pulled and runs, with the digest it has there."""
    podman("push", "--tls-verify=false", "--format", form, built, f"{registry.address}/podman/built:{form}")
    name = f"{registry.address}/podman/built:{form}"
    ran = run_script(fresh.engine, None, image=name)
    assert ran.lines == SAID
    digest = registry.digest(f"podman/built:{form}")
    assert fresh.image(name).digest == digest
    assert run_script(fresh.engine, None, image=f"{registry.address}/podman/built@{digest}").lines == SAID


@pytest.mark.parametrize("compress", ["gzip", "zstd", "none"])
def test_what_is_pushed_here_runs_in_podman(
    podman: Podman, ours: Ours, committed: str, registry: Registry, compress: str
) -> None:
    """An image that was committed and pushed here is pulled and run by podman, by the digest that the push tells."""
    name = f"{registry.address}/ours/{compress}:1"
    said = ours("push", committed, name, "--compress", compress)
    digest = said.partition("@")[2]
    assert registry.digest(f"ours/{compress}:1") == digest
    pinned = f"{registry.address}/ours/{compress}@{digest}"
    podman("pull", "--tls-verify=false", pinned)
    assert podman("run", "--rm", "--network", "none", pinned) == "kept\n"


def test_what_is_pushed_comes_back(ours: Ours, fresh: Ours, committed: str, registry: Registry) -> None:
    """What was pushed as it is has the same digest in another store, and in skopeo's eyes."""
    name = f"{registry.address}/back:1"
    ours("push", committed, name, "--compress", "none")
    fresh("pull", name)
    assert fresh.image(name).digest == ours.image(committed).digest == registry.digest("back:1")


def test_an_image_for_several_platforms(fresh: Ours, registry: Registry, tmp_path: Path) -> None:
    """Of a real index one platform's image is pulled, and the index's digest pins it."""
    require("skopeo")
    fresh.engine.images.find("busybox", pull=library.NEVER)
    layout = tmp_path / "layout"
    fresh("save", "busybox", "-o", f"{layout}/")
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifests = [
        {**entry, "platform": {"os": "linux", "architecture": name}, "annotations": {}} for name in ("amd64", "s390x")
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()
    digest = hashlib.sha256(index).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(index)
    whole = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(index)}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [whole]}))
    target = f"docker://{registry.address}/many:1"
    run("skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{layout}", target)
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", target)
    assert "s390x" in raw
    name = f"{registry.address}/many:1"
    fresh("pull", name, "--platform", "linux/amd64")
    assert fresh.image(name).index.startswith("sha256:")
    assert fresh.engine.store.blobs.read(fresh.image(name).index).decode() == raw


def test_a_registry_that_wants_a_password(
    ours: Ours, fresh: Ours, committed: str, locked_registry: Registry, tmp_path: Path
) -> None:
    """Without a login nobody gets in; with podman's or skopeo's, an image goes out and comes back."""
    name = f"{locked_registry.address}/locked:1"
    with pytest.raises(RegistryError, match=f"docker login {locked_registry.address}"):
        ours("push", committed, name)
    assert locked_registry.auth is not None
    shutil.copy(locked_registry.auth, tmp_path / "auth.json")
    ours("push", committed, name)
    fresh("pull", name)
    assert run_script(fresh.engine, None, image=name).text == "kept"


def test_nothing_is_sent_or_fetched_twice(ours: Ours, fresh: Ours, committed: str, registry: Registry) -> None:
    """A second push of the same image sends nothing, and a pull of what is there fetches nothing."""
    name = f"{registry.address}/twice:1"
    first = ours("push", committed, name)
    assert ours("push", committed, name) == first
    fresh("pull", name)
    before = sorted(path.stat().st_ino for path in (fresh.engine.store.path / "blobs/sha256").iterdir())
    fresh("pull", name)
    assert sorted(path.stat().st_ino for path in (fresh.engine.store.path / "blobs/sha256").iterdir()) == before
