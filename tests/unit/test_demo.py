"""Where the demo finds its notebook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nbcontainer import demo

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_quick_start_is_found() -> None:
    """The notebook that the demo executes is there, and has the founding cell."""
    cells = json.loads(demo.quickstart().read_text(encoding="utf-8"))["cells"]
    assert any("".join(cell["source"]).startswith("%%container busybox -v {data}:/tmp") for cell in cells)


def test_the_installed_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an installed package the notebook lies beside the modules; in a checkout, in `notebooks`."""
    package = tmp_path / "nbcontainer"
    package.mkdir()
    monkeypatch.setattr(demo, "__file__", str(package / "demo.py"))
    assert demo.quickstart() == tmp_path / "notebooks" / "quickstart.ipynb"
    (package / "quickstart.ipynb").touch()
    assert demo.quickstart() == package / "quickstart.ipynb"
