"""Which mounts lie in a volume, by the text of a mountinfo file."""

from __future__ import annotations

import pytest

from nbcontainer.sandbox.userns.volume_trees import inner_mounts


def mountinfo(*targets: str) -> str:
    """The lines of mounts at these places, in the order in which they were made."""
    return "".join(f"{number} 1 0:{number} / {place} rw - tmpfs none rw\n" for number, place in enumerate(targets, 20))


@pytest.mark.parametrize(
    ("targets", "source", "inside"),
    [
        (["/", "/data/a", "/data/b/c"], "/data", ["/data/a", "/data/b/c"]),
        (["/", "/data/a", "/data/a/deep"], "/data", ["/data/a"]),
        (["/", "/data/a", "/database"], "/data", ["/data/a"]),
        (["/", "/data/ab", "/data/a"], "/data", ["/data/a", "/data/ab"]),
        (["/", "/data"], "/data", []),
        (["/", "/proc", "/srv/x"], "/", ["/proc", "/srv/x"]),
        (["/", "/data/a", "/data/a"], "/data", ["/data/a"]),
        (["/", "/data/a/b", "/data/a"], "/data", ["/data/a"]),
        (["/", "/data/a/b", "/data"], "/data", []),
        (["/", r"/data/a\040b"], "/data", ["/data/a b"]),
    ],
    ids=[
        "two",
        "one in another",
        "a longer name",
        "a name that begins so",
        "itself",
        "the root",
        "twice",
        "covered",
        "all covered",
        "a space",
    ],
)
def test_the_visible_mounts_directly_below(targets: list[str], source: str, inside: list[str]) -> None:
    """Neither deeper ones, which come with theirs, nor those that a later mount covers."""
    assert inner_mounts(source, mountinfo(*targets)) == inside
