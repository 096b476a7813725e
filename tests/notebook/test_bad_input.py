"""What cannot be done gets one clear line with the next step, and leaves nothing behind."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from nbcontainer.notebook import live_cells
from nbcontainer.notebook.magics import ContainerMagics
from tests.requirements import require_plain_user

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


def everything(engine: Engine) -> set[str]:
    """The names of all that the store has, but what is prepared for the next cells."""
    engine.background.wait()
    store = engine.store.path
    found = {
        f"{folder}/{path.name}"
        for folder in ("containers", "layers", "blobs/sha256")
        for path in (store / folder).iterdir()
    }
    return found | {path.name for path in (store / "tmp").iterdir() if path.is_file()}


def tar_of(*entries: tuple[str, bytes | None], **facts: object) -> bytes:
    """A tar with files (or, for None, entries as `facts` say)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            if content is None:
                for fact, value in facts.items():
                    setattr(info, fact, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return data.getvalue()


GOOD = tar_of(("file", b"x" * 5000))

ARCHIVES = {
    "empty": (b"", "is empty"),
    "zeros": (bytes(10240), ""),
    "text": (b"this is no archive\n" * 100, ""),
    "truncated": (GOOD[:3000], "cut off"),
    "a header only": (GOOD[:512], "cut off"),
    "a damaged header": (GOOD[:100] + b"\xff" * 50 + GOOD[150:], ""),
    "a gzip cut off": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\x00" * 3, ""),
    "a path that leads out": (tar_of(("../../etc/passwd", b"x")), ""),
    "an absolute link out": (tar_of(("link", None), ("link/passwd", b"x"), type=tarfile.SYMTYPE, linkname="/etc"), ""),
    "a hard link out": (tar_of(("link", None), type=tarfile.LNKTYPE, linkname="../../../etc/shadow"), ""),
}


@pytest.mark.parametrize("line", ["save busybox -o -", "export busybox -o -", "load -", "import - new"])
def test_a_notebook_has_no_stream_for_a_tar(notebook: Notebook, line: str) -> None:
    """`-` stands for a stream of a terminal: in a notebook one line says so, and nothing is written."""
    expected = f"{line.split()[0]}: a notebook has no standard input and output for a tar; use a terminal, as in"
    assert f"{expected} `nbcontainer {line}`" in notebook.fails(f"%container {line}")


@pytest.mark.parametrize("name", ARCHIVES)
def test_bad_archives(notebook: Notebook, engine: Engine, tmp_path: Path, name: str) -> None:
    """An archive that is none, is cut off or means harm is refused in one line, by its path and by import alike."""
    data, word = ARCHIVES[name]
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    notebook.good("%%container busybox\ntrue")
    before = everything(engine)
    outside = set(tmp_path.parent.iterdir())
    if name in ("an absolute link out", "zeros"):
        # Resolved inside the image's own root: harmless. Nothing of it may be outside.
        notebook.run(f"%container import {path} bad")
        notebook.run("%container rmi bad")
        notebook.good("%container prune")
    else:
        for code in (
            f"%%container {path}\ntrue",
            f"%container import {path} bad",
            f"%container import {path} --change 'CMD x'",
        ):
            line = notebook.fails(code)
            assert word in line
            assert "bad" not in notebook.good("print(get_ipython().run_line_magic('container', 'images'))")
    assert everything(engine) == before
    assert set(tmp_path.parent.iterdir()) == outside
    assert notebook.good("%%container busybox\ncat /etc/passwd | head -n 1").startswith("root:")


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("%%container\nls", "UsageError: missing image; name one, as in `%%container busybox`"),
        ("%%container --pull never nope\nls", "ImageNotFound: no image 'nope' in the store; "),
        ("%%container NOPE\nls", "UsageError: invalid image name 'NOPE'; names are lower case"),
        ("%%container ./nope.tar\nls", "ImageNotFound: no file nope.tar; check the path"),
        ("%%container /\nls", "ImageError: the directory is not an OCI image layout; "),
        ("%%container busybox -v x\nls", "UsageError: invalid volume 'x': expected SRC:DST[:ro]; write -v SRC:DST"),
        (
            "%%container busybox -v /no/such:/x\nls",
            "ContainerError: the volume's source '/no/such' does not exist; `mkdir",
        ),
        ("%%container busybox -v /tmp:x\nls", "UsageError: the target 'x' of -v is not absolute; start it with /"),
        ("%%container busybox -v /tmp:/proc/1\nls", "UsageError: cannot mount -v at '/proc/1': the container needs"),
        ("%%container busybox -v /tmp:/a -v /tmp:/a/\nls", "UsageError: two mounts have the target /a; remove one"),
        ("%%container busybox -v /tmp:/etc/passwd/x\nls", "SetupFailed: cannot mount the volume at "),
        ("%%container busybox --name a/b\nls", "UsageError: invalid container name 'a/b'; use up to 63 letters"),
        ("%%container --name never-made\nls", "ContainerNotFound: no such container: 'never-made'; list"),
        ("%%container busybox -u nobody-at-all\nls", "SetupFailed: cannot become the user at /etc/passwd: no user"),
        ("%%container busybox -u 99999999999\nls", "SetupFailed: cannot become the user"),
        (
            "%%container busybox -w rel\nls",
            "UsageError: the working directory 'rel' is not absolute; write",
        ),
        ("%%container busybox --network mars\nls", "UsageError: unknown network 'mars' for --network; choose one of"),
        ("%%container busybox -p 80\nls", "UsageError: --publish 80: one of the two ports is missing; write"),
        ("%%container busybox -p 8080:80\nls", "UsageError: --publish cannot be used with --network none: "),
        ("%%container busybox --userns=mine\nls", "UsageError: unknown user namespace 'mine' for --userns; remove it"),
        (
            "%%container busybox --timeout never\nls",
            "UsageError: invalid time limit 'never' for --timeout; ",
        ),
        ("%%container busybox --env-file /no/such\nls", "UsageError: cannot read --env-file '/no/such': "),
        ("%%container busybox --rm=yes\nls", "UsageError: --rm takes no value; write `--rm`"),
        ("%%container busybox --nmae x\nls", "UsageError: %%container: unknown option '--nmae'; did you mean --name"),
        ("%%container 'busybox\nls", 'UsageError: cannot parse "\'busybox": No closing quotation; check its quotes'),
        (
            "%%container busybox no-such-program\nx",
            "SetupFailed: cannot run no-such-program: No such file or directory",
        ),
        ("%container imags", "UsageError: unknown verb 'imags'; did you mean images"),
        ("%container busybox", "UsageError: unknown verb 'busybox'; "),
        ("%container rm", "UsageError: rm: missing argument; write `rm [OPTIONS] CONTAINER...`"),
        ("%container export busybox", "UsageError: export: missing output file; write `export NAME -o FILE.tar`"),
        ("%container export busybox -o /no/such/x.tar", "ImageError: cannot write /no/such/x.tar: No such file or dir"),
        ("%container export busybox -o /tmp", "ImageError: cannot write /tmp: Is a directory; name a file in it"),
        (
            "%container export busybox -o x.tar.xz",
            "UsageError: cannot write .xz archives; use .tar, .tar.gz or .tar.zst",
        ),
        ("%commit", "UsageError: commit: missing argument; write `commit [OPTIONS] [CONTAINER] IMAGE[:TAG]`"),
        ("%commit Upper", "UsageError: invalid image name 'Upper'; names are lower case"),
        ("%commit busybox@sha256:" + "0" * 64, "UsageError: "),
        ("%commit x --change 'RUN ls'", "UsageError: unknown instruction in --change 'RUN ls'; use one of CMD"),
        ("%commit never-made x", "ContainerNotFound: no such container: 'never-made'"),
    ],
)
def test_bad_words(notebook: Notebook, engine: Engine, code: str, line: str) -> None:
    """Each thing that cannot be meant, or is not there, is said in one line, and the next cell runs all the same."""
    notebook.good("%%container busybox\necho > /last")
    before = everything(engine)
    assert notebook.fails(code).startswith(line)
    if not code.startswith("%%container busybox"):
        assert notebook.run("%container diff").value.rows == (("A", "/last"),)
        assert everything(engine) == before
    assert notebook.good("%%container busybox\necho fine") == "fine\n"


def test_a_name_that_is_in_use(notebook: Notebook) -> None:
    """A name stands for one container: another image for it is refused, and it goes on with its own."""
    notebook.good("%%container busybox --name dev\necho kept > /file")
    notebook.good("%commit dev other")
    line = notebook.fails("%%container other --name dev\nls")
    assert line.startswith("ContainerError: container 'dev' was made from 'busybox', not 'other'; remove the image")
    notebook["nbcontainer"] = __import__("nbcontainer")
    assert notebook.fails("nbcontainer.create('busybox', 'dev')").startswith(
        "ContainerExists: container 'dev' already exists; use it with `--name dev` and no image"
    )
    assert notebook.good("%%container --name dev\ncat /file") == "kept\n"
    notebook.good("%container rm dev")
    notebook.good("%container rmi other")


def test_a_source_that_may_not_be_read(notebook: Notebook, tmp_path: Path) -> None:
    """A volume's source that is closed to the user is refused with its path."""
    require_plain_user()
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    try:
        line = notebook.fails(f"%%container busybox -v {closed}/in:/x\nls")
    finally:
        closed.chmod(0o755)
    assert line == (
        f"ContainerError: cannot use the volume's source '{closed}/in': Permission denied; check the path's permissions"
    )


def test_a_volume_that_refuses(notebook: Notebook, tmp_path: Path) -> None:
    """`:ro` refuses writes with the file system's own word, and the file is as it was."""
    (tmp_path / "file").write_text("before")
    ran = notebook.run(f"%%container busybox -v {tmp_path}:/d:ro\necho after > /d/file")
    assert "Read-only file system" in ran.stderr
    assert (tmp_path / "file").read_text() == "before"


def test_a_damaged_record(notebook: Notebook, engine: Engine) -> None:
    """A container whose record cannot be read is named, can be removed, and is in nobody's way."""
    notebook.good("%%container busybox --name other\necho > /x")
    notebook.good("%%container busybox --name broken\necho > /x")
    record = engine.store.path / "containers" / "broken" / "container.json"
    record.write_text('{"name": "broken"')
    line = notebook.fails("%%container --name broken\nls")
    assert line.startswith("ContainerDamaged: cannot read the record of container 'broken': ")
    assert line.endswith("; remove it with `%container rm broken`")
    for _ in range(3):
        assert notebook.good("%%container busybox\necho > /y; echo fine") == "fine\n"
    assert [row[:3] for row in notebook.run("%container ps").value.rows if row[0] == "broken"] == [
        ("broken", "", "damaged")
    ]
    notebook.good("%container prune")
    notebook.good("%container rm other")
    notebook.good("%container rm broken")
    assert not record.exists()
    assert "no such container: 'broken'" in notebook.fails("%container rm broken")
    before = everything(engine)
    notebook.good("%container prune")
    assert {name for name in before - everything(engine) if name.startswith("layers/")}


def test_a_cell_may_empty_its_machine(notebook: Notebook, engine: Engine, tmp_path: Path) -> None:
    """`rm -rf /` takes the container's own files only: the image, the volume that is read-only and the host stay."""
    (tmp_path / "file").write_text("precious")
    notebook.run(f"%%container busybox -v {tmp_path}:/d:ro --no-raise-error\nrm -rf / 2>/dev/null")
    assert (tmp_path / "file").read_text() == "precious"
    assert os.path.exists("/etc/passwd")  # noqa: PTH110
    assert notebook.good("%%container busybox\nls -d /bin/sh") == "/bin/sh\n"
    assert not engine.closed


@pytest.mark.parametrize(
    "code", ["%%container busybox\ntrue", "%container exec dev true", "%container run busybox true"]
)
def test_what_the_kernel_refuses_this_process_is_one_line(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Too many open files, say: where it happens, and what to do."""

    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(ContainerMagics, "_run", refused)
    monkeypatch.setattr(live_cells, "in_container", refused)
    line = notebook.fails(code)
    assert line.startswith("StoreError: cannot run a c")
    assert line.endswith("Too many open files; raise the limit on open files (ulimit -n)")
