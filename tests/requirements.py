"""What a test needs of the machine: missing, it is skipped with the reason, or fails where NBCONTAINER_REQUIRE says so.

NBCONTAINER_REQUIRE is a list of names with commas, or `all`.
"""

from __future__ import annotations

import os
import shutil

import pytest


def require(name: str, *, available: bool | None = None, why: str = "") -> None:
    """Skips the test unless program `name` is on PATH, or `available` says that the thing of that name is there."""
    found = shutil.which(name) is not None if available is None else available
    if found:
        return
    reason = why or f"{name} is not installed"
    wanted = os.environ.get("NBCONTAINER_REQUIRE", "").split(",")
    if name in wanted or "all" in wanted:
        pytest.fail(f"this run must have {name}: {reason}")
    pytest.skip(reason)


def require_root() -> None:
    """Skips the test for plain users: it needs what only root has."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def require_plain_user() -> None:
    """Skips the test for root: it is about plain users."""
    if os.geteuid() == 0:
        pytest.skip("is about plain users")
