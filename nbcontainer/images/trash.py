"""Removing trees of the store, whichever user owns the files in them."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from nbcontainer.errors import NbcontainerError
from nbcontainer.images import sandboxed
from nbcontainer.images.layers.tree import remove_below

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store


def discard(store: Store, runner: Runner, paths: list[Path]) -> None:
    """Remove trees of the store: their names are gone at once, their files when this returns.

    Files can belong to ids that exist only in a container, so they are removed inside a sandbox if need be. Files that
    cannot be removed now (because the launcher has ended, say) stay in `tmp` for a later cleanup.
    """
    trash = store.path / "tmp" / store.unique()
    try:
        store.new_directory(trash)
    except OSError:  # no space for one more directory: remove the trees where they are
        for path in paths:
            _discard_memory(store, runner, path)
            remove_tree(store, runner, path)
        return
    for path in paths:
        if _discard_memory(store, runner, path):
            with contextlib.suppress(FileNotFoundError):
                path.rename(trash / path.name)
    remove_tree(store, runner, trash)


def _discard_memory(store: Store, runner: Runner, path: Path) -> bool:
    """Remove the directories in the store's `memory` that `path` links to; return whether that was possible."""
    done = True
    for link in (*path.glob("work*"), *path.glob("diff*")):
        if link.is_symlink() and (folder := link.readlink()).exists() and folder.parents[1] == store.memory:
            done = remove_tree(store, runner, folder) and done
            with contextlib.suppress(OSError):  # a layer that was kept leaves its work directory behind
                folder.parent.rmdir()
    return done


def remove_tree(store: Store, runner: Runner, tree: Path) -> bool:
    """Remove a tree (host), of the store or of its `memory`; return whether that was possible."""
    # By its path in the store: the containers' root may not be allowed through the directories above.
    seen = tree.relative_to(store.path) if tree.is_relative_to(store.path) else tree
    try:
        remove_own(tree)
    except OSError:
        try:
            runner.on_directory(sandboxed.remove_all, str(seen))
            tree.rmdir()
        except (OSError, NbcontainerError):
            return False
    return True


def remove_own(tree: Path) -> None:
    """Remove a tree (host) of this user's files, however deep it is. Raises `OSError`; then a part of it is left."""
    try:
        shutil.rmtree(tree)
    except (OSError, RecursionError):  # before Python 3.13, it calls itself, and opens a file, for each level
        fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            remove_below(fd)
        finally:
            os.close(fd)
        tree.rmdir()
