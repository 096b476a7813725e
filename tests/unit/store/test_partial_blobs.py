"""Blobs on their way into the store: checked as they come, kept for the next try, held by one at a time."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.oci import descriptors
from nbcontainer.oci import documents as oci
from nbcontainer.progress import Stopped, Tracker
from nbcontainer.store import partial_blobs
from nbcontainer.store.partial_blobs import Partial, WrongBytes
from tests.running import open_descriptors

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.store.layout import Store

DATA = b"0123456789" * 1000
BLOB = descriptors.Descriptor(oci.LAYER, descriptors.digest_of(DATA), len(DATA))


def resumed(store: Store, blob: descriptors.Descriptor, tracker: Tracker, candidate: int | None = None) -> Partial:
    """A partial blob that is locked, with the bytes that are there."""
    begun = Partial(store, blob, tracker, candidate)
    begun.resume()
    return begun


@pytest.fixture
def tracker() -> Tracker:
    """The count of one piece of work."""
    return Tracker("test")


def test_a_blob_comes_in_parts(store: Store, tracker: Tracker) -> None:
    """What one try has written the next goes on from, and the whole is checked."""
    first = resumed(store, BLOB, tracker)
    first.write(DATA[:4000])
    first.close(keep=True)
    second = resumed(store, BLOB, tracker)
    assert (second.have, second.resumed) == (4000, True)
    second.write(DATA[4000:])
    second.finish()
    with store.lock():
        second.adopt()
    second.close(keep=True)
    assert store.blobs.path(BLOB.digest).read_bytes() == DATA
    assert list((store.path / "partial").iterdir()) == []


def test_what_nobody_wants_is_not_kept(store: Store, tracker: Tracker) -> None:
    """A partial blob that is not worth keeping, and one without a byte, are gone when they are closed."""
    for keep, data in ((False, DATA[:10]), (True, b"")):
        begun = resumed(store, BLOB, tracker)
        begun.write(data)
        begun.close(keep=keep)
        assert list((store.path / "partial").iterdir()) == []


def test_what_was_kept_stays_when_a_transfer_ends_before_its_turn(store: Store, tracker: Tracker) -> None:
    """A transfer locks all its blobs at first: one that it has not come to keeps the bytes of an earlier attempt."""
    first = resumed(store, BLOB, tracker)
    first.write(DATA[:4000])
    first.close(keep=True)
    Partial(store, BLOB, tracker).close(keep=True)
    assert resumed(store, BLOB, tracker).have == 4000


@pytest.mark.parametrize("data", [DATA[:-1] + b"x", DATA[:-1]], ids=["other bytes", "too few"])
def test_wrong_bytes_are_refused(store: Store, tracker: Tracker, data: bytes) -> None:
    """A blob with another digest, or fewer bytes, does not finish."""
    begun = resumed(store, BLOB, tracker)
    begun.write(data)
    with pytest.raises(WrongBytes):
        begun.finish()
    begun.close(keep=False)


def test_more_bytes_than_promised_are_refused_at_once(store: Store, tracker: Tracker) -> None:
    """The first byte too many is an error: no disk is filled by a blob without an end."""
    begun = resumed(store, BLOB, tracker)
    begun.write(DATA)
    with pytest.raises(WrongBytes, match="has more than the expected"):
        begun.write(b"x")
    begun.close(keep=False)


@pytest.mark.parametrize("left", [DATA + b"x", b"y" * len(DATA)], ids=["too long", "whole and wrong"])
def test_a_wrong_rest_is_thrown_away(store: Store, tracker: Tracker, left: bytes) -> None:
    """What cannot be the beginning of the blob is not gone on from."""
    (store.path / "partial" / BLOB.digest[7:]).write_bytes(left)
    begun = resumed(store, BLOB, tracker)
    assert begun.have == 0
    begun.close(keep=False)


def test_a_damaged_blob_is_replaced(store: Store, tracker: Tracker) -> None:
    """A blob of the store that is no longer right is brought in again, in another file."""
    damaged = b"y" * len(DATA)
    store.blobs.path(BLOB.digest).write_bytes(damaged)
    begun = resumed(store, BLOB, tracker)
    assert begun.have == 0
    begun.write(DATA)
    assert store.blobs.path(BLOB.digest).read_bytes() == damaged
    begun.finish()
    with store.lock():
        begun.adopt()
    begun.close(keep=False)
    assert store.blobs.path(BLOB.digest).read_bytes() == DATA


def test_a_blob_of_the_store_need_not_come_again(store: Store, tracker: Tracker) -> None:
    """A blob that the store has is whole at once, and stays where it is."""
    store.blobs.path(BLOB.digest).write_bytes(DATA)
    begun = resumed(store, BLOB, tracker)
    assert begun.complete
    begun.finish()
    begun.close(keep=False)
    assert store.blobs.path(BLOB.digest).read_bytes() == DATA


def test_a_file_is_taken_over(store: Store, tracker: Tracker, tmp_path: Path) -> None:
    """A private file with the blob's bytes becomes the blob, without a copy."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDONLY)
    begun = resumed(store, BLOB, tracker, fd)
    os.close(fd)
    assert begun.complete
    with store.lock():
        begun.adopt()
    begun.close(keep=False)
    assert store.blobs.path(BLOB.digest).stat().st_ino == path.stat().st_ino


def test_the_second_waits_for_the_first(store: Store, tracker: Tracker) -> None:
    """Who wants a blob that another is bringing in waits, and then finds it in the store."""
    first = resumed(store, BLOB, tracker)
    first.write(DATA)
    found: list[int] = []

    def second() -> None:
        waited = resumed(store, BLOB, tracker)
        found.append(waited.have)
        waited.close(keep=False)

    thread = threading.Thread(target=second)
    thread.start()
    first.finish()
    with store.lock():
        first.adopt()
    assert found == []
    first.close(keep=False)
    thread.join()
    assert found == [len(DATA)]


def test_a_blob_stored_meanwhile_is_not_fetched_again(
    store: Store, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stores the blob after the second has looked for it, and before that one makes its own file."""
    first = resumed(store, BLOB, tracker)
    first.write(DATA)
    prepare = Partial._prepare
    looked: list[Partial] = []

    def end_first(waiting: Partial, candidate: int | None) -> None:
        prepare(waiting, candidate)
        if not looked:
            first.finish()
            with store.lock():
                first.adopt()
            first.close(keep=False)
        looked.append(waiting)

    monkeypatch.setattr(Partial, "_prepare", end_first)
    second = resumed(store, BLOB, tracker)
    assert second.have == len(DATA)
    second.close(keep=False)


def test_a_blob_that_begins_again_stays_locked(store: Store, tracker: Tracker) -> None:
    """While one drops wrong bytes, no other gets the blob: it waits, and finds the new file when that is released."""
    begun = resumed(store, BLOB, tracker)
    begun.write(DATA[:10])
    begun.restart()
    assert (begun.have, begun.path.stat().st_size) == (0, 0)
    given_up = Tracker("second")
    given_up.stop()
    with pytest.raises(Stopped):
        Partial(store, BLOB, given_up)
    begun.write(DATA)
    begun.finish()
    begun.close(keep=True)
    assert resumed(store, BLOB, tracker).complete
    assert list((store.path / "tmp").iterdir()) == []


def test_a_blob_that_cannot_begin_again_stays_as_it_is(
    store: Store, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the new file cannot be made, the old one stays locked, and nothing new is left."""
    begun = resumed(store, BLOB, tracker)
    begun.write(DATA[:10])

    def full(_: Path, __: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(type(begun.path), "rename", full)
        with pytest.raises(OSError, match="No space left"):
            begun.restart()
    assert open_descriptors() == before
    assert list((store.path / "tmp").iterdir()) == []
    assert begun.path.read_bytes() == DATA[:10]
    begun.close(keep=False)


def test_waiting_can_be_given_up(store: Store) -> None:
    """Ctrl-C while another process has the blob ends the wait."""
    first = Partial(store, BLOB, Tracker("first"))
    given_up = Tracker("second")
    given_up.stop()
    with pytest.raises(Stopped):
        Partial(store, BLOB, given_up)
    first.close(keep=False)


def test_followers_see_what_has_come(store: Store, tracker: Tracker) -> None:
    """Who follows a blob gets its length as it grows, and is told when no more will come."""
    begun = resumed(store, BLOB, tracker)
    seen: list[int] = []
    saw = threading.Event()

    def follow() -> None:
        while (there := begun.beyond(seen[-1] if seen else 0)) > (seen[-1] if seen else 0):
            seen.append(there)
            saw.set()

    thread = threading.Thread(target=follow)
    thread.start()
    begun.write(DATA[:10])
    assert saw.wait(20)
    begun.fail()
    thread.join()
    assert seen == [10]
    begun.close(keep=False)


def test_left_overs_are_swept_when_they_are_old(store: Store, tracker: Tracker) -> None:
    """What an interrupted transfer left is found once it is old, and never while somebody holds it."""
    begun = resumed(store, BLOB, tracker)
    begun.write(DATA[:10])
    assert partial_blobs.left_over(store, 0) == []
    begun.close(keep=True)
    assert partial_blobs.left_over(store) == []
    os.utime(begun.path, (0, 0))
    assert partial_blobs.left_over(store) == [begun.path]
    partial_blobs.left_over(store, remove=lambda path: path.unlink())
    assert not begun.path.exists()
