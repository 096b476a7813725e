"""The AppArmor profile that doctor prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.sandbox.apparmor import FILE, profile

if TYPE_CHECKING:
    from pathlib import Path


def test_the_profile_is_for_the_program_without_links(tmp_path: Path) -> None:
    """AppArmor compares the path of the file that runs; a virtual environment has a link to it."""
    (tmp_path / "python3.12").touch()
    (tmp_path / "python").symlink_to("python3.12")
    text = profile(tmp_path / "python")
    assert f'profile nbcontainer "{tmp_path}/python3.12" flags=(unconfined) {{' in text.splitlines()
    assert "  userns," in text.splitlines()


def test_the_comment_says_where_it_goes() -> None:
    """Each command in it names the same file."""
    comments = [line for line in profile().splitlines() if line.startswith("#")]
    assert sum(FILE in line for line in comments) == 3


@pytest.mark.parametrize("name", ["a*b", "a?b", "a{b}", "a[b]", "a^b", "a\\b", "a@{HOME}"])
def test_a_path_is_no_pattern(tmp_path: Path, name: str) -> None:
    """A character that AppArmor expands is escaped, so that the profile is for this program alone."""
    (written,) = re.findall(r'profile nbcontainer "(.*)" flags', profile(tmp_path / name))
    assert re.sub(r"\\(.)", r"\1", written) == str(tmp_path / name)
    assert not re.search(r"(?<!\\)[*?{}\[\]^@]", written)


@pytest.mark.parametrize("name", ['a"b', "a\nb"])
def test_a_path_that_would_end_the_rule_is_refused(tmp_path: Path, name: str) -> None:
    """A quote or a line's end in it would make another profile."""
    with pytest.raises(UsageError, match="AppArmor"):
        profile(tmp_path / name)
