"""SECURITY.md names the tests that show what it promises."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent


def test_every_promise_is_shown_by_tests_that_are_there() -> None:
    """Each row of the table names tests, and each of them is in the file that is named before it."""
    text = (TOP / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 8
    for row in rows:
        assert re.search(r"`test_\w+`", row), row
    file = HERE / "none.py"
    for name, ending in re.findall(r"`((?:tests/[\w/]+/)?test_\w+)(\.py)?`", text):
        if ending:
            file = TOP / f"{name}.py" if name.startswith("tests/") else HERE / f"{name}.py"
            assert file.exists(), file
        else:
            assert f"def {name}(" in file.read_text(), f"{name} is not in {file.name}"


def test_every_attack_is_on_the_page() -> None:
    """No attack is left out of SECURITY.md, but those that show that another one is real."""
    text = (TOP / "SECURITY.md").read_text()
    controls = {"test_the_mount_refuses_even_who_has_the_capability"}
    for path in sorted(HERE.glob("test_*.py")):
        if path.name not in (Path(__file__).name, "test_programs.py"):
            named = set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
            assert {name for name in named - controls if f"`{name}`" not in text} == set(), path.name
