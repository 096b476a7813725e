"""The store on disk: what a crash, another process, damage and a full disk make of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import ImageError, ImageNotFound, StoreError, UsageError
from nbcontainer.images.archives.loading import ImportOptions, load
from nbcontainer.images.staging import Staging
from nbcontainer.images.trash import discard
from nbcontainer.linux.files import keeps_attributes
from nbcontainer.oci import descriptors
from nbcontainer.oci import documents as oci
from nbcontainer.store import blobs, errors, sessions
from nbcontainer.store.layout import Store, default_path
from tests.requirements import require, require_plain_user, require_root
from tests.running import DEADLINE
from tests.unit.images import tars
from tests.unit.images.in_process import InProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWNER = (os.geteuid(), os.getegid())
ARCHIVE = tars.archive(tars.directory(b"etc"), tars.entry(b"etc/motd", b"hello\n"))


def bring(store: Store, data: bytes = ARCHIVE, name: str = "tree") -> oci.Image:
    """Imports an archive."""
    fd = os.memfd_create("archive")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return load(Staging(store, InProcess(store.path)), fd, ImportOptions(name))[0]
    finally:
        os.close(fd)


@contextlib.contextmanager
def another(path: Path) -> Iterator[Store]:
    """The same store as another process would open it."""
    opened = Store(path, OWNER)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def elsewhere(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process with the store open: it evaluates lines of Python and answers with a line each."""
    code = (
        "import sys, contextlib, os\n"
        "from pathlib import Path\n"
        "from nbcontainer.store.layout import Store\n"
        f"store = Store(Path({str(store.path)!r}), {OWNER!r})\n"
        "print(store.session, flush=True)\n"
        "for line in sys.stdin: exec(line); print('done', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that another process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], code: str) -> None:
    """Has another process run a line of Python."""
    assert process.stdin is not None
    process.stdin.write(code + "\n")
    process.stdin.flush()


# What is on disk


def test_a_new_store_is_an_oci_layout(store: Store) -> None:
    """An empty store is a layout with an empty index, closed to everybody else."""
    assert json.loads((store.path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.path / "index.json").read_text())
    assert (index["schemaVersion"], index["manifests"]) == (2, [])
    assert store.path.stat().st_mode & 0o777 == 0o700
    assert store.index.images() == {}


def test_a_store_of_mapped_containers_lets_their_root_pass() -> None:
    """Where the containers' root is somebody else, the top is open to its group alone, to be passed through."""
    require_root()
    with tempfile.TemporaryDirectory() as folder:
        opened = Store(Path(folder, "store"), (100_000, 100_000))
        try:
            facts = opened.path.stat()
            assert (facts.st_mode & 0o777, facts.st_uid, facts.st_gid) == (0o710, 0, 100_000)
            made = opened.new_directory(opened.path / "tmp" / opened.unique())
            assert (made.stat().st_uid, made.stat().st_gid) == (100_000, 100_000)
        finally:
            opened.close()


def test_an_image_is_whole_blobs_and_a_name(store: Store) -> None:
    """Every blob is named by its digest, the index names the manifest, and the layer's files are beside them."""
    image = bring(store)
    for path in (store.path / "blobs" / "sha256").iterdir():
        assert descriptors.digest_of(path.read_bytes()) == f"sha256:{path.name}"
    (entry,) = json.loads((store.path / "index.json").read_text())["manifests"]
    assert (entry["digest"], entry["annotations"][oci.REF_NAME]) == (image.digest, "tree")
    layer = store.layers.find(image.layers[0].diff_id)
    assert layer is not None
    assert (store.path / "layers" / layer / "diff" / "etc" / "motd").read_text() == "hello\n"
    assert list((store.path / "tmp").iterdir()) == []


def test_the_same_archive_is_one_layer(store: Store) -> None:
    """The same content under two names is one blob and one layer; the same name twice is the newer image."""
    first, second = bring(store, name="one"), bring(store, name="two")
    assert first.layers == second.layers
    bring(store, tars.archive(tars.entry(b"other")), "one")
    assert len([path for path in (store.path / "layers").iterdir() if path.name != "sha256"]) == 2
    assert store.index.image("one").layers != store.index.image("two").layers == first.layers


DEFAULTS = {
    "chosen": ({"NBCONTAINER_HOME": "/some/where", "XDG_DATA_HOME": "/x"}, 0, "/some/where"),
    "root's": ({"XDG_DATA_HOME": "/x"}, 0, "/var/lib/nbcontainer"),
    "XDG": ({"XDG_DATA_HOME": "/x"}, 1000, "/x/nbcontainer"),
    "a user's": ({"HOME": "/home/u"}, 1000, "/home/u/.local/share/nbcontainer"),
    "chosen in the home": ({"HOME": "/home/u", "NBCONTAINER_HOME": "~/store"}, 1000, "/home/u/store"),
}


@pytest.mark.parametrize(("environment", "uid", "path"), DEFAULTS.values(), ids=DEFAULTS.keys())
def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], uid: int, path: str) -> None:
    """NBCONTAINER_HOME over all, then one place for root and the XDG directory for everybody else."""
    for name in ("NBCONTAINER_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert default_path() == Path(path)


def test_a_copy_without_extended_attributes_is_refused(tmp_path: Path) -> None:
    """They note what cells have removed: a copy with `cp -r` would show it again. One with `cp -a` is the store."""
    Store(tmp_path / "store", OWNER).close()
    if not (tmp_path / "store" / "attributes").exists():
        pytest.skip("the file system keeps no extended attributes")
    for options, name in (("-a", "whole"), ("-r", "stripped")):
        subprocess.run(["cp", options, tmp_path / "store", tmp_path / name], check=True)
    Store(tmp_path / "whole", OWNER).close()
    with pytest.raises(
        StoreError, match=r"is a copy of a store without extended attributes: .*; copy it again with `cp -a`"
    ):
        Store(tmp_path / "stripped", OWNER)


def test_a_store_of_an_earlier_version_gets_the_mark(tmp_path: Path) -> None:
    """It has no file that says that it has attributes, and opens; from then on, a copy without them is refused."""
    Store(tmp_path / "store", OWNER).close()
    mark = tmp_path / "store" / "attributes"
    mark.unlink(missing_ok=True)
    Store(tmp_path / "store", OWNER).close()
    assert mark.exists() == keeps_attributes(str(tmp_path))


def test_a_user_without_a_home_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without an entry in /etc/passwd, and without HOME, gets the variables to set; no path is named."""
    for name in ("NBCONTAINER_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(UsageError, match=r"no home directory is known for user 54321: .*; set HOME, or"):
        default_path()


# Crashes


def test_a_file_left_in_tmp_does_not_matter(store: Store) -> None:
    """What was being written when a process died is not part of anything."""
    image = bring(store)
    (store.path / "tmp" / "dead01.1").write_text("half a blob")
    (store.path / "tmp" / "dead01.2").mkdir()
    with another(store.path) as again:
        assert again.index.image("tree") == image


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_the_index_is_the_old_or_the_new(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A crash while the index is written leaves the old one, whole, and the next one to write it goes on."""
    image = bring(store, name="old")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(KeyboardInterrupt):
            store.index.tag(image, "new")
    with another(store.path) as again:
        assert list(again.index.images()) == ["old"]
        again.index.tag(image, "new")
    assert sorted(store.index.images()) == ["new", "old"]


def test_an_interrupted_import_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while an archive is unpacked leaves no name, no blob, no layer and nothing in tmp."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nbcontainer.images.layers.extractor.Extractor.finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bring(store)
    assert store.index.images() == {}
    assert list((store.path / "tmp").iterdir()) == []
    assert list((store.path / "blobs" / "sha256").iterdir()) == []
    assert [path.name for path in (store.path / "layers").iterdir()] == ["sha256"]


def test_a_name_whose_layer_is_lost(store: Store) -> None:
    """A layer whose files are gone is none, and is named again by the next import of the same content."""
    image = bring(store)
    layer = store.layers.find(image.layers[0].diff_id)
    assert layer is not None
    discard(store, InProcess(store.path), [store.path / "layers" / layer])
    assert store.layers.find(image.layers[0].diff_id) is None
    bring(store)
    assert store.layers.find(image.layers[0].diff_id) not in (None, layer)


# Several processes


def test_names_of_another_process_are_seen(store: Store) -> None:
    """What another process adds or takes away is there at the next look."""
    with another(store.path) as other:
        image = bring(other)
        assert store.index.image("tree") == image
        other.index.drop_image("tree")
        with pytest.raises(ImageNotFound):
            store.index.image("tree")


def test_the_lock_holds_between_processes(store: Store, elsewhere: subprocess.Popen[str]) -> None:
    """The exclusive lock waits for every other holder, the shared one for the exclusive holder alone."""
    line(elsewhere)
    tell(elsewhere, "lock = store.lock(shared=True); lock.__enter__()")
    assert line(elsewhere) == "done"
    with store.lock(shared=True):
        pass
    tell(elsewhere, "lock.__exit__(None, None, None); lock = store.lock(); lock.__enter__()")
    assert line(elsewhere) == "done"
    assert _is_locked(store, shared=True)
    tell(elsewhere, "lock.__exit__(None, None, None)")
    assert line(elsewhere) == "done"
    with store.lock():
        assert _is_locked(store, shared=True)
        tell(elsewhere, 'exec(\'with store.lock(): os.mkdir(store.path / "tmp" / "proof")\')')
        with store.lock():  # again, by who has it
            assert not (store.path / "tmp" / "proof").exists()
    assert line(elsewhere) == "done"
    assert (store.path / "tmp" / "proof").exists()


def _is_locked(store: Store, *, shared: bool) -> bool:
    with (store.path / "lock").open() as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_killed_process_frees_the_lock(store: Store, elsewhere: subprocess.Popen[str]) -> None:
    """A process that dies with the lock does not keep it."""
    line(elsewhere)
    tell(elsewhere, "lock = store.lock(); lock.__enter__()")
    assert line(elsewhere) == "done"
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    with store.lock():
        pass


def test_dead_sessions_are_recognised(store: Store, elsewhere: subprocess.Popen[str]) -> None:
    """A session is alive while its process is, and dead, once, when that was killed."""
    session = line(elsewhere)
    assert store.sessions.alive() == {store.session, session}
    assert store.sessions.dead() == set()
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    assert store.sessions.dead() == {session}
    assert store.sessions.alive() == {store.session}
    assert store.sessions.dead() == set()


@pytest.fixture
def mark(store: Store) -> sessions.CleanMark:
    """The mark of a store in which nothing has changed for a long time, set."""
    for path in [*store.path.iterdir(), *(store.path / "layers").iterdir(), *(store.path / "blobs").iterdir()]:
        os.utime(path, (1_700_000_000, 1_700_000_000))
    mark = sessions.CleanMark(store.path)
    mark.set(store.path / "tmp" / store.unique())
    assert mark.holds()
    return mark


CHANGES: dict[str, Callable[[Path], object]] = {
    "a layer": lambda store: (store / "layers" / "a").mkdir(),
    "a container": lambda store: (store / "containers" / "a").mkdir(),
    "a journal": lambda store: (store / "journals" / "a").touch(),
    "a flattened layer": lambda store: (store / "flats" / "a").touch(),
    "a result": lambda store: (store / "cache" / "a").touch(),
    "a blob": lambda store: (store / "blobs" / "sha256" / "a").touch(),
    "a kind of digest": lambda store: (store / "blobs" / "sha512").mkdir(),
    "an image": lambda store: (store / "index.json").write_text("{}"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_ends_the_mark_of_a_clean_store(
    store: Store, mark: sessions.CleanMark, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark does not hold after a change of anything that a cleanup looks at, and cannot be set at once."""
    monkeypatch.setattr(sessions, "_SETTLED", DEADLINE)
    change(store.path)
    assert not mark.holds()
    mark.set(store.path / "tmp" / store.unique())
    assert not mark.holds()


def test_a_dead_session_ends_the_mark_of_a_clean_store(
    store: Store, mark: sessions.CleanMark, elsewhere: subprocess.Popen[str]
) -> None:
    """Where a process died, it may have left something, whatever the times say."""
    line(elsewhere)
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    assert mark.holds()
    assert store.sessions.dead()
    assert not mark.holds()


def test_a_closed_session_is_gone(store: Store) -> None:
    """Closing a store ends its session; twice is once."""
    other = Store(store.path, OWNER)
    other.close()
    other.close()
    assert store.sessions.alive() == {store.session}


def test_sessions_say_what_they_do(store: Store) -> None:
    """What one process says of itself the others read, the newest word alone."""
    with another(store.path) as other:
        other.sessions.publish({"pid": 1, "running": {"a-long-name": {}}})
        other.sessions.publish({"pid": 1, "running": {}})
        store.sessions.publish({"pid": 2})
        assert sorted(store.sessions.states(), key=lambda it: it["pid"]) == [
            {"pid": 1, "running": {}},
            {"pid": 2},
        ]


def test_names_are_of_one_session(store: Store) -> None:
    """Two processes never make the same name, and each name says whose it is."""
    with another(store.path) as other:
        names = [opened.unique() for opened in (store, other) for _ in range(100)]
        assert len(set(names)) == 200
        assert {name.partition(".")[0] for name in names} == {store.session, other.session}


# Damage


def test_many_blobs_are_one_wait_for_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that gets many blobs is synced once, after the last of them: a commit of many cells waits once."""
    synced: list[int] = []
    folder = store.path / "blobs" / "sha256"
    monkeypatch.setattr(blobs, "sync_directory", lambda path: synced.append(len(list(path.iterdir()))))
    files = []
    for data in (b"one", b"two", b"three"):
        path = store.path / "tmp" / store.unique()
        path.write_bytes(data)
        files.append((path, descriptors.digest_of(data)))
    before = len(list(folder.iterdir()))
    store.blobs.adopt_all(files)
    assert synced == [before + 3]
    assert [store.blobs.read(digest) for _, digest in files] == [b"one", b"two", b"three"]


def test_a_damaged_blob_is_found_out(store: Store) -> None:
    """A document that is not what its digest says is not believed."""
    digest = store.blobs.write(b"{}")
    store.blobs.path(digest).write_bytes(b"[]")
    with pytest.raises(ImageError, match=f"{digest} in the store is damaged; remove the image, then pull or load it"):
        store.blobs.read(digest)
    store.blobs.path(digest).unlink()
    with pytest.raises(ImageError, match=f"blob {digest} is missing from the store; pull or load the image again"):
        store.blobs.read(digest)


def test_a_document_past_all_reason_is_not_read(store: Store) -> None:
    """A document of more than a few megabytes is none."""
    digest = store.blobs.write(b"x" * 1000)
    with pytest.raises(ImageError, match="is damaged"):
        store.blobs.read(digest, limit=999)


@pytest.mark.parametrize("which", ["manifest", "configuration"])
def test_a_damaged_image_is_one_clear_error(store: Store, which: str) -> None:
    """An image that cannot be read is named as damaged; the others are there, and it can be dropped or replaced."""
    damaged = bring(store, name="damaged")
    bring(store, tars.archive(tars.entry(b"other")), "good")
    blob = damaged.digest if which == "manifest" else json.loads(store.blobs.read(damaged.digest))["config"]["digest"]
    store.blobs.path(blob).write_bytes(b"{}")
    with another(store.path) as again:
        assert list(again.index.images()) == ["good"]
        assert again.index.damaged() == ("damaged",)
        with pytest.raises(ImageError, match="image 'damaged' in the store is damaged; run `%container verify`"):
            again.index.image("damaged")
        again.index.drop_image("damaged")
        assert again.index.damaged() == ()


INDEXES = {
    "empty": b"",
    "cut off": b'{"schemaVersion":2,"manifests":[',
    "no index": b"[]",
    "without manifests": b"{}",
    "manifests that are none": b'{"manifests":[1]}',
    "manifests that are no list": b'{"manifests":"a"}',
    "no text": b"\xff\xfe",
    "deep": b'{"manifests":' + b"[" * 100_000,
}


@pytest.mark.parametrize("text", INDEXES.values(), ids=INDEXES.keys())
def test_a_damaged_index_is_one_clear_error(store: Store, text: bytes) -> None:
    """An index that cannot be read is said by its path; nothing is written over it."""
    bring(store)
    (store.path / "index.json").write_bytes(text)
    with another(store.path) as again:
        for use in (again.index.images, lambda: again.index.drop_image("tree"), lambda: bring(again)):
            with pytest.raises(
                StoreError, match=r"cannot read .*index\.json: .*; restore or remove the file"
            ) as raised:
                use()
            assert "\n" not in str(raised.value)
    assert (store.path / "index.json").read_bytes() == text


def test_a_store_that_was_removed(store: Store) -> None:
    """Somebody removed the directory below a running notebook: said so."""
    (store.path / "index.json").unlink()
    with pytest.raises(StoreError, match="is missing; the store was removed: restart the notebook"):
        store.index.images()


@pytest.mark.parametrize("text", ['{"imageLayoutVersion":"2.0.0"}', "rubbish", ""])
def test_a_layout_of_another_version(tmp_path: Path, text: str) -> None:
    """A layout that is not ours to write is left alone."""
    (tmp_path / "oci-layout").write_text(text)
    with pytest.raises(StoreError, match="is an image layout of another version, or damaged; set NBCONTAINER_HOME"):
        Store(tmp_path, OWNER)


# Where no store can be


def test_a_directory_with_something_else_in_it(tmp_path: Path) -> None:
    """Somebody's home is not closed to others and filled: a store wants a directory of its own."""
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(StoreError, match="is not empty and is not an nbcontainer store; set NBCONTAINER_HOME"):
        Store(tmp_path, OWNER)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_store_that_was_made_in_part(tmp_path: Path) -> None:
    """A store that a crash left half made is finished by the next who opens it."""
    (tmp_path / "store" / "blobs").mkdir(parents=True)
    with another(tmp_path / "store") as opened:
        assert opened.index.images() == {}


@pytest.mark.parametrize("below", ["", "store"])
def test_a_file_is_no_store(tmp_path: Path, below: str) -> None:
    """A file in the store's place, or above it, is one clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot open the store at .*; set NBCONTAINER_HOME to a directory"):
        Store(tmp_path / "file" / below, OWNER)


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """Without permission it is one clear error, with what to set."""
    require_plain_user()
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot open the store at .*: Permission denied; set NBCONTAINER_HOME to a"):
        Store(tmp_path / "store", OWNER)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    require_root()
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k,mode=755", "tmpfs", place], check=False, capture_output=True
    )
    require("mount", available=mounted.returncode == 0, why=f"cannot mount a tmpfs: {mounted.stderr.decode()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk(small: Path) -> None:
    """An import that does not fit is one clear error with what to do; nothing of it stays, and the store goes on."""
    with another(small / "store") as store:
        bring(store)
        used = os.statvfs(small).f_bfree
        large = tars.archive(tars.entry(b"large", os.urandom(400 << 10)))
        with pytest.raises(StoreError, match=r"at .*: No space left on device; free some space: `%container prune`"):
            bring(store, large, "large")
        assert list(store.index.images()) == ["tree"]
        assert list((store.path / "tmp").iterdir()) == []
        assert os.statvfs(small).f_bfree == used
        bring(store, tars.archive(tars.entry(b"small")), "small")


def test_a_disk_that_is_full_to_the_last_byte(small: Path) -> None:
    """Where not even a directory can be made, names are as before and what was begun is gone."""
    with another(small / "store") as store:
        image = bring(store)
        with (small / "filler").open("wb") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(4096))
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            bring(store, tars.archive(tars.entry(b"other")), "other")
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            store.index.tag(image, "more")
        assert list(store.index.images()) == ["tree"]
        (small / "filler").unlink()
        assert list((store.path / "tmp").iterdir()) == []
        store.index.tag(image, "more")


def test_a_store_cannot_be_made_on_a_full_disk(small: Path) -> None:
    """A full disk is named when the store is made, too."""
    with (small / "filler").open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    with pytest.raises(StoreError, match="No space left on device; free some space"):
        Store(small / "store", OWNER)


def test_a_read_only_disk(small: Path) -> None:
    """A read-only file system is one clear error."""
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(StoreError, match=r"Read-only file system; set NBCONTAINER_HOME to a directory on a writable"):
        Store(small / "store", OWNER)


def test_every_errno_is_worded() -> None:
    """The errors that people meet have a next step, the others the kernel's words."""
    for code in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR):
        assert errors.store_error("write", Path("/s"), OSError(code, os.strerror(code))).hint
    error = errors.store_error("write", Path("/s"), OSError(errno.EIO, os.strerror(errno.EIO)))
    assert str(error) == "cannot write at /s: Input/output error"


def test_write_layers_are_spread_where_the_file_system_can(tmp_path: Path) -> None:
    """On ext4, `tmp` has the flag T, also in a store of an older version; elsewhere the store opens all the same."""
    require("chattr")
    probe = tmp_path / "probe"
    probe.mkdir()
    can = subprocess.run(["chattr", "+T", probe], capture_output=True, check=False).returncode == 0
    for _ in range(2):
        Store(tmp_path / "store", (os.geteuid(), os.getegid())).close()
        words = ["lsattr", "-d", str(tmp_path / "store/tmp")]
        flags = subprocess.run(words, capture_output=True, text=True, check=False).stdout.partition(" ")[0]
        assert ("T" in flags) == can
        subprocess.run(["chattr", "-T", tmp_path / "store/tmp"], capture_output=True, check=can)
