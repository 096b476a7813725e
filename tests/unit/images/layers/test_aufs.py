"""Records of AUFS in layers of old hosts with Docker: they are left out, and the files that they hold are kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import HostileArchive
from tests.unit.images import tars

if TYPE_CHECKING:
    from tests.unit.images.in_process import Unpacker

RECORDS = (tars.entry(b".wh..wh.aufs"), tars.directory(b".wh..wh.orph"), tars.directory(b".wh..wh.plnk"))
PLINK = tars.entry(b".wh..wh.plnk/131.7", b"shared", mode=0o4755, mtime=5)


def test_a_hard_link_to_a_record_is_the_file(unpacker: Unpacker) -> None:
    """Files that are links into .wh..wh.plnk have its content, mode and time, and are one file; no record is left."""
    links = (tars.hard_link(b"bin/a", b".wh..wh.plnk/131.7"), tars.hard_link(b"b", b"./.wh..wh.plnk/131.7"))
    unpacker(tars.archive(*RECORDS, PLINK, tars.directory(b"bin"), *links), whiteouts=True)
    assert unpacker.names() == [b"b", b"bin", b"bin/a"]
    found = tars.snapshot(unpacker.root)
    assert found[b"bin/a"] == found[b"b"]
    assert (found[b"b"].data, found[b"b"].mode, found[b"b"].mtime) == (b"shared", 0o4755, 5)


def test_a_record_that_is_a_link_itself(unpacker: Unpacker) -> None:
    """A record may be a hard link to a file that came before it."""
    records = (tars.entry(b"a", b"x"), *RECORDS, tars.hard_link(b".wh..wh.plnk/1.2", b"a"))
    unpacker(tars.archive(*records, tars.hard_link(b"b", b".wh..wh.plnk/1.2")), whiteouts=True)
    assert unpacker.names() == [b"a", b"b"]


@pytest.mark.parametrize("name", [b".wh..wh.plnk/131.7", b".wh..wh.aufs", b".wh..wh.orph/x/y", b".wh..wh.plnk/a/b"])
def test_records_without_links_leave_nothing(unpacker: Unpacker, name: bytes) -> None:
    """A record that no entry is a link to is in no image."""
    unpacker(tars.archive(*RECORDS, tars.entry(name, b"x"), tars.entry(b"f")), whiteouts=True)
    assert unpacker.names() == [b"f"]


REFUSED = {
    "a record that is not there": tars.hard_link(b"a", b".wh..wh.plnk/1.2"),
    "a record below a record": tars.hard_link(b"a", b".wh..wh.plnk/131.7/x"),
    "a record of another kind": tars.hard_link(b"a", b".wh..wh.aufs"),
    "a name that leads out": tars.hard_link(b"a", b".wh..wh.plnk/../../131.7"),
}


@pytest.mark.parametrize("link", REFUSED.values(), ids=REFUSED.keys())
def test_a_link_that_leads_to_no_record_is_refused(unpacker: Unpacker, link: bytes) -> None:
    """A hard link to a missing record, or past the records, is refused in one line, and nothing beside changes."""
    with pytest.raises(HostileArchive, match=re.escape(".wh..wh.")):
        unpacker(tars.archive(*RECORDS, PLINK, link), whiteouts=True)


def test_a_root_file_system_has_no_records(unpacker: Unpacker) -> None:
    """A tar of a root file system that has such names is refused: it is no layer of Docker's."""
    with pytest.raises(HostileArchive, match="forged whiteout"):
        unpacker(tars.archive(*RECORDS))
