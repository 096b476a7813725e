"""`debug` and `--toolbox`: a shell where the image has none, in the state in which the last cell failed."""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.commands.verbs.debugging import DEBUG, session
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.debug.failed_state import copy_at, failed_state, run_discarded
from nbcontainer.containers.diff import diff
from nbcontainer.containers.history.cell_options import options_of, parsed, to_json
from nbcontainer.containers.options import run_options
from nbcontainer.containers.run import run
from nbcontainer.errors import ContainerError
from nbcontainer.images.archives.loading import ImportOptions
from nbcontainer.images.builtin.busybox import static_busybox
from nbcontainer.oci.documents import ImageConfig
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine

TOOLS = "/dev/nbcontainer/toolbox"


@pytest.fixture
def bare(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """An image with one program, /app/false, which is its entrypoint: it has no shell."""
    binary = static_busybox()
    assert binary is not None
    archive = tmp_path / "bare.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(binary.resolve(), "app/false")
    name = f"bare-{os.getpid()}"
    options = ImportOptions(name, config=ImageConfig(entrypoint=("/app/false",)), only_root=True)
    with archive.open("rb") as file:
        engine.images.load(file.fileno(), options)
    yield name
    engine.store.index.drop_image(name)


def looked(engine: Engine, container: Container, script: str, **options: object) -> list[str]:
    """The lines that a script writes in the state in which the container's last cell failed."""
    out: list[bytes] = []
    request = Request(command=("sh", "-c", script), options=run_options({"toolbox": True, **options}))
    with copy_at(engine, container, failed_state(container)) as copy:
        run_discarded(engine, copy, request, Streams(out.append, out.append))
    return b"".join(out).decode().splitlines()


def test_the_state_of_a_failure_is_seen_and_does_not_change(engine: Engine, name: str) -> None:
    """The files of the cell that failed are there; what the shell writes is nowhere afterwards."""
    run_script(engine, "echo before > /a", name=name)
    failed = run_script(engine, "echo wrong > /a; false", name=name)
    run_script(engine, "echo later > /a", name=name)
    container = containers.get(engine, name)
    head = container.record.head
    assert failed_state(container).number == 2
    assert looked(engine, container, "cat /a; echo trace > /b; rm /a; ls /b") == ["wrong", "/b"]
    after = containers.get(engine, name)
    assert (after.record.head, after.record.newest) == (head, 3)
    assert "/b" not in {change.path for change in diff(after)}
    assert run_script(engine, "cat /a; ls /b 2>/dev/null", name=name).lines == ["later"]
    assert failed.container.name == name


def test_a_failure_of_an_anonymous_container_is_seen(engine: Engine) -> None:
    """Its state is in memory: the one of a cell that changed nothing, too."""
    for script, seen in (("echo kept > /a; false", "kept"), ("false", "none")):
        container = run_script(engine, script).container
        assert looked(engine, container, "cat /a 2>/dev/null || echo none") == [seen]
        assert container.record.count == 1


def test_without_a_failure_there_is_nothing_to_enter(engine: Engine, name: str) -> None:
    """The error says so, and how a shell is opened in the present state."""
    run_script(engine, "true", name=name)
    with pytest.raises(ContainerError, match=f"no cell of container '{name}' failed") as caught:
        failed_state(containers.get(engine, name))
    assert f"--toolbox --name {name}" in caught.value.hint
    run_script(engine, "touch /a; false", name=name)
    container = containers.get(engine, name)
    container.undo()
    with pytest.raises(ContainerError):
        failed_state(container)


def test_an_image_without_a_shell_gets_one(engine: Engine, bare: str, name: str) -> None:
    """Programs of busybox come last on PATH. The layers of the container have nothing of them."""
    plain = {change.path for change in diff(run_script(engine, None, image=bare).container)}
    ran = run_script(
        engine, None, image=bare, name=name, command=("sh", "-c", "ls /; echo $0 $1", "x", "y"), toolbox=True
    )
    assert ran.lines[-1] == "x y"
    assert "app" in ran.lines
    assert {change.path for change in diff(ran.container)} == plain
    assert run_script(engine, "echo $0; echo script $1", image=bare, toolbox=True).lines[-1] == "script"
    failed = run_script(engine, None, image=bare, name=f"{name}-2").container
    try:
        assert looked(engine, failed, "echo here; echo > /left") == ["here"]
        assert {change.path for change in diff(containers.get(engine, failed.name))} == plain
    finally:
        failed.remove()


def test_the_images_own_programs_come_first(engine: Engine) -> None:
    """A shell of the image is used if it works, and its variables stay."""
    script = "which ls; ls -l /proc/$$/exe | grep -c toolbox; echo $PATH"
    lines = run_script(engine, script, toolbox=True).lines
    assert lines[:2] == ["/bin/ls", "0"]
    assert lines[2].startswith("/usr/local/sbin:")
    assert lines[2].endswith(f":{TOOLS}/usr/sbin")
    assert run_script(engine, f"test -e {TOOLS}").outcome.exit_code == 1


def test_a_broken_shell_gives_way(engine: Engine, name: str) -> None:
    """A /bin/sh that does not start is not tried further."""
    run_script(engine, "rm /bin/sh; echo garbage > /bin/sh; chmod +x /bin/sh; rm -f /bin/bash", name=name)
    assert run_script(engine, "echo still", name=name, toolbox=True).lines == ["still"]
    assert run_script(engine, None, image="", name=name, toolbox=True).outcome.ok


@pytest.mark.parametrize("capabilities", [(), ("SYS_ADMIN",)])
def test_the_tools_cannot_be_changed(engine: Engine, capabilities: tuple[str, ...]) -> None:
    """They are layers of the store, which other containers use: neither a write nor a remount changes them."""
    from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES

    script = f"echo x > {TOOLS}/bin/busybox; mount -o remount,rw {TOOLS}; echo x > {TOOLS}/new; rm {TOOLS}/bin/sh"
    ran = run_script(
        engine, f"({script}) 2>&1; ls {TOOLS}", toolbox=True, capabilities=(*DEFAULT_CAPABILITIES, *capabilities)
    )
    assert "new" not in ran.lines
    assert ran.stdout.count(b"Read-only file system") >= 2
    assert run_script(engine, f"{TOOLS}/bin/sh -c 'echo whole'", toolbox=True).lines == ["whole"]


def session_of(engine: Engine, name: str, *words: str) -> tuple[list[str], str]:
    """The lines that `debug NAME WORD...` writes, and its title."""
    out: list[bytes] = []
    with session(engine, parse(DEBUG, [*words[:-1], name, "sh", "-c", words[-1]]), terminal=False) as found:
        found.run(Streams(out.append, out.append))
        return b"".join(out).decode().splitlines(), found.title


def failed_with(engine: Engine, name: str, script: str, *options: str) -> None:
    """Run a cell that fails, with options as a user writes them."""
    words = parse(RUN, [*options, "--name", name, "busybox"])
    run(engine, request_of(words, script=script), Streams(lambda _: None, lambda _: None))


def test_the_options_of_the_failed_cell_are_taken_over(engine: Engine, name: str, tmp_path: Path) -> None:
    """Volumes are there and cannot be written, the directory and the host name are the cell's."""
    (tmp_path / "f").write_text("host\n")
    options = ("-v", f"{tmp_path}:/data", "--tmpfs", "/mem:size=64k", "-w", "/srv/x", "-h", "box")
    failed_with(engine, name, "echo changed >/data/f; false", *options)
    lines, title = session_of(engine, name, "pwd; hostname; cat /data/f; (echo x >/data/f) 2>&1; df /mem | grep -c 64")
    assert lines[:3] == ["/srv/x", "box", "changed"]
    assert "Read-only" in lines[3]
    assert lines[4] == "1"
    assert f"{tmp_path}:/data:ro" in title
    assert (tmp_path / "f").read_text() == "changed\n"


def test_options_of_debug_replace_those_of_the_cell(engine: Engine, name: str, tmp_path: Path) -> None:
    """A volume at the same place, and the directory."""
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "f").write_text(f"{place}\n")
    failed_with(engine, name, "false", "-v", f"{tmp_path}/one:/data", "-v", f"{tmp_path}/one:/more", "-w", "/srv")
    words = ("-v", f"{tmp_path}/two:/data", "-w", "/opt", "pwd; cat /data/f /more/f; echo new >/data/f")
    assert session_of(engine, name, *words)[0] == ["/opt", "two", "one"]
    assert (tmp_path / "two" / "f").read_text() == "new\n"


def test_values_of_variables_are_in_no_record(engine: Engine, name: str) -> None:
    """The title names the variables; one that is passed again is not named."""
    failed_with(engine, name, "false", "-e", "TOKEN=swordfish", "-e", "MODE=fast")
    lines, title = session_of(engine, name, "-e", "MODE=slow", "echo $TOKEN $MODE")
    assert lines == ["slow"]
    assert title.endswith("no record has values of variables: pass -e TOKEN=... again")
    journal = engine.states.journals.path(containers.get(engine, name).record.journal)
    with open(journal) as file:  # noqa: PTH123
        text = file.read()
    assert "swordfish" not in text
    assert "TOKEN" in text


def test_a_volume_that_is_gone_is_named(engine: Engine, name: str, tmp_path: Path) -> None:
    """The shell opens without it."""
    (tmp_path / "data").mkdir()
    failed_with(engine, name, "false", "-v", f"{tmp_path}/data:/data")
    (tmp_path / "data").rmdir()
    lines, title = session_of(engine, name, "ls -d /data; echo here")
    assert lines[-1] == "here"
    assert f"not available now: {tmp_path}/data:/data:ro" in title


def test_changes_of_a_copy_on_write_volume_are_seen_and_do_not_grow(engine: Engine, name: str, tmp_path: Path) -> None:
    """The shell sees what the cell wrote to its layer, and what it writes itself is discarded."""
    (tmp_path / "f").write_text("host\n")
    failed_with(engine, name, "echo layer >/data/f; false", "-v", f"{tmp_path}:/data:cow")
    script = "cat /data/f; echo shell >/data/f; cat /data/f"
    assert session_of(engine, name, script)[0] == ["layer", "shell"]
    assert session_of(engine, name, script)[0] == ["layer", "shell"]
    assert (tmp_path / "f").read_text() == "host\n"


def test_a_volume_of_the_store_is_seen(engine: Engine, name: str) -> None:
    """It has its name in the record, and cannot be written."""
    volume = f"v-{name}"
    failed_with(engine, name, "echo kept >/v/f; false", "-v", f"{volume}:/v")
    try:
        lines, _ = session_of(engine, name, "cat /v/f; (echo x >/v/f) 2>&1")
        assert lines[0] == "kept"
        assert "Read-only" in lines[1]
    finally:
        containers.get(engine, name).remove()
        shutil.rmtree(engine.store.path / "volumes" / volume, ignore_errors=True)


def test_what_a_record_has_is_read_again() -> None:
    """Anything else in its place is refused."""
    options = run_options({"user": "1000", "workdir": "/srv", "read_only": True, "env": ("A=1", "B")})
    found = options_of(options)
    assert parsed(to_json(found)) == found
    assert dict(found) == {"user": ("1000",), "workdir": ("/srv",), "read-only": ("",), "env": ("A", "B")}
    wrongs: tuple[Any, ...] = ([], {"privileged": [""]}, {"user": "1000"}, {"user": [1]}, {1: ["x"]})
    for wrong in wrongs:
        with pytest.raises((TypeError, ValueError)):
            parsed(wrong)
