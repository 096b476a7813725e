"""What the files of a state are, as one text: for the key of the cell that sees them."""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.store.cache_entries import CONTENTS

if TYPE_CHECKING:
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.history.state import State
    from nbcontainer.containers.workspace import Workspace

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def identity_of(container: Container) -> str:
    """Return the identity of the files that the next cell in a container sees.

    A state that a cached cell led to has the id of that result. Any other one that changed something has the content of
    its layer and the identity of the state below. Raises what a sandbox raises, `OSError`.
    """
    above: list[State] = []
    identity = container.record.image_digest
    for state in container.history.changes():
        if state.cell.result and state.layers:
            identity = f"result {state.cell.result}"
            break
        above.append(state)
    for state in reversed(above):
        for layer in state.layers:
            text = f"{identity} {content_of_layer(container.workspace, layer)}"
            identity = f"layer {hashlib.sha256(text.encode()).hexdigest()}"
    return identity


def content_of_layer(workspace: Workspace, layer: str) -> str:
    """Return the digest of a layer's tar. A layer is read once: it never changes."""
    store = workspace.store
    link = store.path / CONTENTS / layer
    with contextlib.suppress(OSError):
        known = str(link.readlink())
        if _DIGEST.fullmatch(known):
            return known
    with store.incoming() as (_, fd):
        packed = workspace.on_directory(sandboxed.pack_layer, f"layers/{layer}/diff", [fd], read_only=True, clamp=None)
    found = str(packed["diff_id"])
    with contextlib.suppress(OSError):  # it is computed again then
        link.parent.mkdir(mode=0o755, exist_ok=True)
        link.symlink_to(found)
    return found
