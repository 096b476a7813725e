"""The files of a layer, which a cell made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcontainer.notebook import layer_files
from nbcontainer.notebook.layer_files import LayerTree

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def tree(tmp_path: Path) -> LayerTree:
    """A layer on another one that has /tmp."""
    for name in ("below/tmp", "top/tmp/made/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "top" / "tmp" / "made" / "file").touch()
    return LayerTree(tmp_path / "top", (tmp_path / "below",))


def test_files_and_new_directories_are_found(tmp_path: Path) -> None:
    """A directory that the layers below have is not new; a word names a file by its path or the end of it."""
    files = tree(tmp_path).files()
    assert files.count == 1
    assert files.directories == {"/tmp/made", "/tmp/made/deep"}
    assert all(map(files.have, ("/tmp/made/file", "made/file", "file", "/tmp/made", "/tmp//made/../made")))
    assert not any(map(files.have, ("/tmp", "ile", "/file", "made", "/")))
    assert tree_is_new(tmp_path, "/tmp/made")
    assert not tree_is_new(tmp_path, "/tmp")


def tree_is_new(tmp_path: Path, path: str) -> bool:
    """Whether a directory of that layer is new."""
    return LayerTree(tmp_path / "top", (tmp_path / "below",)).is_new_directory(path)


def test_no_link_and_no_pipe_of_a_cell_is_opened(tmp_path: Path) -> None:
    """Links and pipes count as files; what a link leads to is not read, also not on the way to a directory."""
    layer = tree(tmp_path)
    (tmp_path / "outside" / "secret").mkdir(parents=True)
    (tmp_path / "top" / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(tmp_path / "top" / "pipe")
    files = layer.files()
    assert files.files == {"/tmp/made/file", "/link", "/pipe"}
    assert not files.have("secret")
    assert not layer.is_new_directory("/link/secret")
    assert not layer.is_new_directory("/pipe/x")


def test_no_link_of_a_lower_layer_is_followed(tmp_path: Path) -> None:
    """What a link of the image or of an earlier cell leads to, on this machine, does not make a directory old."""
    layer = tree(tmp_path)
    (tmp_path / "outside" / "made").mkdir(parents=True)
    (tmp_path / "below" / "way").symlink_to(tmp_path / "outside")
    (tmp_path / "top" / "way" / "made").mkdir(parents=True)
    assert layer.is_new_directory("/way/made")
    assert layer.is_new_directory("/tmp/made")
    assert not layer.is_new_directory("/way")  # the link was there


def test_a_large_layer_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in breadth nor in depth; the number of files is then a least number."""
    monkeypatch.setattr(layer_files, "_MOST", 3)
    layer = tree(tmp_path)
    for number in range(5):
        (tmp_path / "top" / str(number)).touch()
    assert layer.files().more
    assert layer.files().count <= 3
    assert LayerTree(tmp_path / "nosuch", ()).files().count == 0
