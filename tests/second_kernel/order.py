"""What the machine outside asks of the machine inside, and where both find it: plain data, as JSON in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = "/dev/vda"
"""The disk (guest) that takes the results, as a tar: `FACTS`, and a JUnit report for each user that ran."""

STORAGE = "/dev/vdb"
"""The disk (guest) with an ext4 for the tests' files: root's volumes are idmapped, as a tmpfs cannot be before 6.3."""

FACTS = "facts.json"


@dataclass(frozen=True)
class User:
    """Who runs the tests inside: root, or a plain user with or without a range of subordinate ids."""

    name: str
    uid: int
    has_range: bool = False

    @property
    def report(self) -> str:
        """The name of this user's JUnit report in the results."""
        return f"{self.name}.xml"


USERS = (User("root", 0), User("ranged", 4001, has_range=True), User("bare", 4002))


@dataclass(frozen=True)
class Order:
    """The tests to run: `project` and `python` are paths of the host, which the guest sees as they are.

    `tests` are pytest's words, for each user by name.
    """

    project: str
    python: str
    environment: dict[str, str]
    tests: dict[str, list[str]]

    def write(self, path: Path) -> None:
        """Writes it to a file (host)."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Order:
        """Reads it (guest)."""
        return cls(**json.loads(path.read_text()))
