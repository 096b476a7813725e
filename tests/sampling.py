"""`--sample N`: of each test, at most N of its sets of parameters, so that users and cases are not multiplied.

They are spread evenly, with the first and the last one, and are the same in each run. CI runs every set as root, and a
sample as each plain user. Attacks are never left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

_Item = TypeVar("_Item")


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "run at most this many sets of parameters of each test (default: all)"
    parser.addoption("--sample", type=int, metavar="N", help=help_text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    most: int | None = config.getoption("--sample")
    if most is None:
        return
    sets: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = item.nodeid if "attacks" in item.path.parts else item.nodeid.partition("[")[0]
        sets.setdefault(name, []).append(item)
    kept = {id(item) for ones in sets.values() for item in spread(ones, most)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def spread(items: Sequence[_Item], most: int) -> Sequence[_Item]:
    """Return at most `most` items, evenly spread, with the first and, of more than one, the last."""
    if len(items) <= most:
        return items
    if most == 1:
        return items[:1]
    return [items[round(at * (len(items) - 1) / (most - 1))] for at in range(most)]
