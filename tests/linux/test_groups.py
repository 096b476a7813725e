"""A notebook whose user is in many groups, as with a directory service."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.requirements import require_root
from tests.running import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("helper", ["0", "1"])
@pytest.mark.parametrize("groups", [400, 4000])
def test_init_takes_such_a_notebook_for_a_living_one(store_path: Path, helper: str, groups: int) -> None:
    """Init looks at the notebook after a second; the groups fill the first pages of what it reads."""
    require_root()
    done = subprocess.run(
        [sys.executable, "-m", "nbcontainer", "run", "busybox", "sh", "-c", "sleep 2.2; echo done"],
        env={**os.environ, "NBCONTAINER_HOME": str(store_path), "NBCONTAINER_HELPER": helper},
        extra_groups=range(1_234_500_000, 1_234_500_000 + groups),
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"done\n"), done.stderr
