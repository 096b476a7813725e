"""Trees of the store are removed, however deep they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.images.trash import remove_own
from tests.running import make_deep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("levels", [1, 3000])
def test_a_tree_is_removed_however_deep_it_is(tmp_path: Path, levels: int) -> None:
    """A container chooses the depth: neither Python's limit of calls nor the one of open files matters."""
    make_deep(tmp_path / "tree", levels)
    remove_own(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_a_link_leads_to_is_not_removed(tmp_path: Path) -> None:
    """A link in place of the tree is an error, and one in it goes alone."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(NotADirectoryError):
        remove_own(tmp_path / "link")
    make_deep(tmp_path / "tree", 3000)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    remove_own(tmp_path / "tree")
    assert (tmp_path / "kept").exists()
