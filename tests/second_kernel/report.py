"""What came back from the machine inside: its facts, and how each test ended, from pytest's JUnit reports."""

from __future__ import annotations

import json
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from tests.second_kernel.order import FACTS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


@dataclass(frozen=True)
class Report:
    """One user's tests by how they ended, each by the id that pytest takes.

    Those that were skipped have the reason, and those that failed what was said.
    """

    passed: frozenset[str]
    skipped: dict[str, str]
    failed: dict[str, str]

    @classmethod
    def parse(cls, xml: bytes) -> Report:
        """Reads a report of pytest's (`junit_family=xunit2`)."""
        passed: set[str] = set()
        skipped: dict[str, str] = {}
        failed: dict[str, str] = {}
        for case in ElementTree.fromstring(xml).iter("testcase"):
            told = [element for element in case if element.tag in ("failure", "error")]
            if told:
                failed[_id(case)] = "\n".join(element.text or "" for element in told)
            elif (skip := case.find("skipped")) is not None:
                skipped[_id(case)] = skip.get("message", "")
            else:
                passed.add(_id(case))
        return cls(frozenset(passed), skipped, failed)


def _id(case: Element) -> str:
    """tests.linux.test_x.TestY and test_z as tests/linux/test_x.py::TestY::test_z."""
    path, classes = PurePosixPath(), []
    for word in case.get("classname", "").split("."):
        if path.name.startswith("test_"):
            classes.append(word)
        else:
            path /= word
    return "::".join([f"{path}.py", *classes, case.get("name", "")])


def read_results(disk: Path) -> dict[str, Any]:
    """The facts, and under their files' names the reports; empty where the machine handed nothing in."""
    with tarfile.open(disk, "r:") as tar:
        found = {member.name: content(tar, member).read() for member in tar}
    return {name: json.loads(data) if name == FACTS else Report.parse(data) for name, data in found.items()}


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """A regular file of a tar, to read from."""
    opened = tar.extractfile(member)
    assert opened is not None
    return opened
