"""The image `host`: this machine, of which a cell may change all that it may change here, and the machine nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer import api
from nbcontainer.containers.diff import diff
from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.archives.saving import save_archive
from nbcontainer.images.layers.compression import Compression
from nbcontainer.progress import Tracker
from tests.requirements import require_root
from tests.running import all_dead, mounts_of, pidfds, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine

    Run = Callable[..., str]


@pytest.fixture
def run(engine: Engine) -> Run:
    """What a cell on `host` prints."""

    def run(script: str, **options: object) -> str:
        return run_script(engine, script, image="host", **options).text  # type: ignore[arg-type]

    return run


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of this user's that the image shows, with files: in the interpreter's, or root's own /usr/local."""
    parent = "/usr/local" if os.geteuid() == 0 else sys.prefix
    if not os.access(parent, os.W_OK):
        pytest.skip("this user has no place that the image shows")
    with tempfile.TemporaryDirectory(prefix="nbcontainer-test-", dir=parent) as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "kept").write_text("as it was")
        (path / "folder").mkdir()
        (path / "folder/below").write_text("x")
        yield path


def test_the_notebooks_own_python_runs_with_its_packages(run: Run) -> None:
    """`python` is this interpreter, wherever it is, and imports what this one imports."""
    program = "import sys, IPython, traitlets; print(sys.prefix, IPython.__file__, sep='\\n')"
    import IPython

    assert run(f'python -c "{program}"').split("\n") == [sys.prefix, IPython.__file__]


def test_the_machines_programs_are_there(run: Run) -> None:
    """What is installed is installed inside, from the same files."""
    assert run("sha256sum < /bin/sh").split()[0] == hashlib.sha256(Path("/bin/sh").read_bytes()).hexdigest()
    assert run("cat /etc/os-release") == Path("/etc/os-release").read_text().strip()


def test_what_a_cell_changes_changes_nothing_outside(run: Run, own: Path) -> None:
    """Files are removed, rewritten and made in the copy; the next cell has the machine as it is."""
    script = f"cd {own} && rm -r folder && echo changed > kept && echo > new && chmod 700 . && ls"
    assert run(script).split() == ["kept", "new"]
    assert sorted(path.name for path in own.iterdir()) == ["folder", "kept"]
    assert (own / "kept").read_text() == "as it was"
    assert own.stat().st_mode & 0o777 == 0o755
    assert run(f"cat {own}/kept; echo; ls {own}").split("\n") == ["as it was", "folder", "kept"]


def test_all_that_can_be_removed_may_be(run: Run, own: Path) -> None:
    """`rm -rf` of a whole directory of the machine's leaves that cell without it, and the machine with it."""
    assert run(f"rm -rf {own} && ls -d {own} 2>&1 || echo gone").endswith("gone")
    assert (own / "folder/below").read_text() == "x"


def test_root_may_break_the_machine_in_the_copy(run: Run) -> None:
    """Root's container removes the package manager, and writes to /etc and /usr; outside all is there."""
    require_root()
    before = [path for path in sorted(Path("/etc").iterdir()) if path.is_dir()]  # others may edit a file there
    assert run("rm -rf /usr/lib/python3 /etc/* /usr/share/doc; ls /etc | wc -l; touch /usr/bin/made && echo ok") == (
        "0\nok"
    )
    assert [path for path in sorted(Path("/etc").iterdir()) if path.is_dir()] == before
    assert not Path("/usr/bin/made").exists()


def test_a_named_container_goes_on(engine: Engine, run: Run, own: Path) -> None:
    """What one cell changed in the machine's directories, the next one of the same container has; others do not."""
    run(f"rm {own}/kept; echo 1 > {own}/folder/new; echo 2 > /made", name="on-host")
    again = run_script(engine, f"ls {own} {own}/folder; cat /made", image="", name="on-host").text
    assert again.split() == [f"{own}:", "folder", f"{own}/folder:", "below", "new", "2"]
    assert run(f"cat {own}/kept") == "as it was"
    api.get("on-host", engine=engine).remove()


def test_diff_tells_what_is_new_from_what_is_changed(engine: Engine, run: Run, own: Path) -> None:
    """The machine below counts as the image: a changed file is C, a new one A, a removed one D."""
    run(f"rm -r {own}/folder; echo 1 > {own}/new; echo 1 > {own}/kept; echo > /made", name="differs")
    container = api.get("differs", engine=engine)
    found = {str(change) for change in diff(container)}
    assert {f"D {own}/folder", f"A {own}/new", f"C {own}/kept", "A /made"} <= found
    container.remove()


def test_a_commit_is_an_image_of_this_machine(engine: Engine, run: Run, own: Path, tmp_path: Path) -> None:
    """It runs here, with the changes over the machine as it is then; it is not to be had elsewhere."""
    run(f"rm {own}/kept; echo 1 > {own}/new", name="to-commit")
    container = api.get("to-commit", engine=engine)
    image = api.commit(container, "of-host")
    (own / "later").write_text("x")
    assert run_script(engine, f"ls {own}", image="of-host").text.split() == ["folder", "later", "new"]
    with pytest.raises(ImageError, match="the host"), Tracker("save") as tracker:
        save_archive(engine.store, [image], tmp_path / "x.tar", tracker, Compression.NONE)
    assert not (tmp_path / "x.tar").exists()
    container.remove()
    engine.store.index.drop_image("of-host")


def test_homes_secrets_and_the_store_are_not_there(engine: Engine, run: Run) -> None:
    """/home and /root have nothing but the interpreter, /tmp and /run nothing at all, and the store is hidden."""
    shown = {part for python in (sys.prefix, sys.base_prefix) for part in Path(python).parts}
    inside = run("for d in /home /root /tmp /run /var/tmp; do ls -A $d; done").split()
    assert set(inside) <= shown
    assert run(f"ls -d {engine.store.path} 2>/dev/null || echo hidden") == "hidden"
    assert run("cat /etc/shadow 2>/dev/null | cut -d: -f2 | sort -u") in ("", "*")


def test_what_is_hidden_stays_hidden(run: Run) -> None:
    """An attacker's cell looks for the overlay's marks, takes the empty directories away and makes them anew, and finds
    nothing below."""
    script = """
    python - <<'END'
    import os
    for path in ("/", "/home", "/etc", "/usr"):
        for name in os.listxattr(path):
            if "overlay" in name:
                print(path, name)
        for name in ("user.overlay.opaque", "trusted.overlay.opaque"):
            try:
                os.removexattr(path, name)
                print("removed", path, name)
            except OSError:
                pass
    print("looked")
    END
    rm -rf /home /root /var/tmp 2>/dev/null; mkdir -p /home /root; ls -A /home /root
    """.replace("\n    ", "\n")
    before = run("ls -A /home /root").split()
    looked, *shown = run(script).split()
    assert looked == "looked"
    assert set(shown) <= {*before, "/home:", "/root:"}


def test_files_that_only_root_reads_are_not_shown(run: Run) -> None:
    """A key of root's beside the machine's settings is hidden from its own containers, whose root could read it."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="nbcontainer-test-", dir="/usr/local") as name:
        Path(name).chmod(0o755)
        for path, mode in (("key", 0o600), ("open", 0o644)):
            (Path(name) / path).write_text("secret")
            (Path(name) / path).chmod(mode)
        (Path(name) / "closed").mkdir(mode=0o700)
        (Path(name) / "closed/key").write_text("secret")
        # The image is what the machine was when this notebook first used it, or its images changed.
        engine_run = run(f"ls {name}; cat {name}/open")
        assert "key" not in engine_run.split()
        assert "open" in engine_run.split()
        assert run(f"ls -A {name}/closed") == ""


def test_a_user_namespace_is_needed(engine: Engine) -> None:
    """With --userns=host its root would be the machine's: it is refused, in one line."""
    require_root()
    with pytest.raises(UsageError, match="requires a user namespace"):
        run_script(engine, "true", image="host", userns="host")


def test_nothing_is_left(engine: Engine, run: Run, own: Path) -> None:
    """After cells that changed the machine's directories, and one that failed, no mount and nothing in tmp is left."""
    run(f"rm -r {own}/folder; echo > /made")
    run("exit 3")
    engine.replace_last(None)
    engine.background.wait()
    engine.close()
    session = engine.store.session
    assert [path.name for path in (engine.store.path / "tmp").iterdir() if path.name.startswith(session)] == []
    assert [line for line in mounts_of(engine.store.path) if f"{session}." in line] == []


def test_a_restarted_launcher_shows_the_machine_again(engine: Engine, run: Run) -> None:
    """The launcher is killed, and the next cell has the machine below it all the same."""
    assert run("test -x /bin/sh && echo here") == "here"
    os.kill(engine.launcher.pid, 9)
    assert run("test -x /bin/sh && echo here") == "here"


def test_a_launcher_that_dies_before_the_cell_begins_is_replaced(
    engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan has the paths where the launcher showed the machine. The next launcher shows it there, too."""
    assert run("test -x /bin/sh && echo here") == "here"
    submit = engine.launcher.submit

    def submit_late(*arguments: Any, **options: Any) -> Any:
        dying = pidfds([engine.launcher.pid])
        os.kill(engine.launcher.pid, signal.SIGKILL)
        assert all_dead(dying)
        return submit(*arguments, **options)

    monkeypatch.setattr(engine.launcher, "submit", submit_late)
    assert run("test -x /bin/sh && echo here") == "here"


def test_uppers_in_memory(engine: Engine, run: Run, own: Path) -> None:
    """Where what cells write is kept in memory, so is what they write to the machine's directories."""
    engine.store.use_memory()
    run(f"rm {own}/kept; echo 1 > {own}/new", name="in-memory")
    again = run_script(engine, f"ls {own}", image="", name="in-memory")
    assert again.text.split() == ["folder", "new"]
    container = api.get("in-memory", engine=engine)
    container.remove()
    engine.background.wait()
    engine.close()
    assert not engine.store.memory.exists()
