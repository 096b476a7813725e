"""Fields of `inspect -f` by Docker's paths, where this project's documents have another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


_UNSET: dict[str, Any] = {
    "User": "",
    "Env": [],
    "Cmd": None,
    "Entrypoint": None,
    "Volumes": None,
    "WorkingDir": "",
    "Labels": None,
}
"""What Docker shows of a configuration that does not say more."""


def in_dockers_shape(document: Any) -> dict[str, Any]:
    """Return the fields of `docker inspect` that an image's or a container's document has; none for any other."""
    if not isinstance(document, dict):
        return {}
    if "manifest" in document:
        return _image(document)
    return _container(document) if "cells" in document else {}


def _image(document: Mapping[str, Any]) -> dict[str, Any]:
    config = document["config"]
    rootfs = config.get("rootfs", {})
    return {
        "Id": document["manifest"]["config"]["digest"],
        "RepoTags": [document["name"]],
        "Digest": document["digest"],
        "Created": config.get("created"),
        "Author": config.get("author", ""),
        "Architecture": config.get("architecture"),
        "Variant": config.get("variant", ""),
        "Os": config.get("os"),
        "Config": _UNSET | (config.get("config") or {}),
        "RootFS": {"Type": rootfs.get("type"), "Layers": rootfs.get("diff_ids", [])},
    }


def _container(document: Mapping[str, Any]) -> dict[str, Any]:
    running, cells = document["running"], document["cells"]
    outcome = cells[-1]["outcome"] if cells else {}
    status = "running" if running else "exited" if cells else "created"
    return {
        "Name": document["name"],
        "Created": document["created"],
        "Image": document["image_digest"],
        "Config": {"Image": document["image"], "Labels": document["labels"]},
        "State": {
            "Status": status,
            "Running": running is not None,
            "ExitCode": outcome.get("exit_code", 0),
        },
    }
