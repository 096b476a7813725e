"""`%container use IMAGE --untrusted`, and cells with `--untrusted`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers import run as running
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.sandbox.cgroups import hierarchy
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


def test_a_notebook_is_untrusted_by_one_word(notebook: Notebook) -> None:
    """Cells without an image run with the safe settings, and `use` shows them."""
    notebook.good("%container use busybox --untrusted")
    said = notebook.good("%%container\ntouch /x /etc/x || ls /sys/class/net; touch /tmp/x ~/x && echo scratch")
    assert said.split() == ["lo", "scratch"]
    assert "--untrusted" in notebook.good("%container use")


def test_a_cell_line_has_it_too(notebook: Notebook) -> None:
    """The limits are those of the run: its time, its scratch space, its capabilities."""
    assert notebook.good("%%container busybox --untrusted\ngrep CapEff /proc/self/status").split()[1] == "0" * 16
    assert "time limit" in notebook.fails("%%container busybox --untrusted --timeout 0.5\nsleep 100")
    assert notebook.run("%%container busybox --untrusted --storage 2m\nhead -c 9m /dev/zero > /tmp/x").error is not None


def test_processes_are_limited(notebook: Notebook) -> None:
    """By control groups, or by the limit of each user where there are none."""
    loop = "i=0; while [ $i -lt 40 ]; do sleep 9 & i=$((i+1)); done 2>/dev/null; ls -d /proc/[0-9]* | wc -l"
    ran = notebook.run(f"%%container busybox --untrusted --pids-limit 20 --no-raise-error\n{loop}")
    assert not ran.stdout.strip().isdigit() or int(ran.stdout) <= 22


def test_what_a_notebook_trusts_is_inert_all_the_same(notebook: Notebook) -> None:
    """A trait that trusts does not count, the option is an error, and text cannot control a page or a terminal."""
    publisher = CapturingDisplayPublisher()  # type: ignore[no-untyped-call]
    notebook.shell.display_pub = publisher
    notebook.good("%config ContainerMagics.trust_output = True")
    page = "echo '<b>x</b><script>1</script>' > /out/a.html"
    notebook.good(f"%%container busybox --untrusted --show\n{page}")
    notebook.good(f"%%container busybox --show\n{page}")
    shown = [str(one["data"]) for one in publisher.outputs if "<b>" in str(one["data"])]
    assert ["<script>" in one for one in shown] == [False, True]
    assert "--trust-output" in notebook.fails("%%container busybox --untrusted --trust-output\ntrue")
    said = notebook.good(r"%%container busybox --untrusted" "\n" r"printf '\033]0;x\007\033[31mred\033[0m\n'")
    assert said == "\ufffd]0;x\ufffd\x1b[31mred\x1b[0m\n"


def test_a_flag_that_a_trait_sets_is_turned_off(notebook: Notebook) -> None:
    """`--trust-output=false` and the like hold for one cell, whatever the notebook's traits are."""
    publisher = CapturingDisplayPublisher()  # type: ignore[no-untyped-call]
    notebook.shell.display_pub = publisher
    notebook.good("%config ContainerMagics.trust_output = True")
    notebook.good("%config ContainerMagics.raise_error = False")
    notebook.good("%config ContainerMagics.footer = True")
    page = "echo '<b>x</b><script>1</script>' > /out/a.html"
    notebook.good(f"%%container busybox --show --trust-output=false --footer=false\n{page}")
    assert len(publisher.outputs) == 1
    assert "<script>" not in str(publisher.outputs)
    notebook.good("%%container busybox\nexit 3")
    assert "exit code 3" in notebook.fails("%%container busybox --no-raise-error=false\nexit 3")


@pytest.mark.parametrize("start", ["--bg --wait-for up", "--live"])
def test_who_joins_an_untrusted_container_is_as_inert(dev: Notebook, start: str) -> None:
    """A command, and a cell that names the container alone, show what its own cells may show."""
    publisher = CapturingDisplayPublisher()  # type: ignore[no-untyped-call]
    dev.shell.display_pub = publisher
    dev.good("%config ContainerMagics.trust_output = True")
    text = r"\033]0;title\007done\n"
    script = "while :; do sleep 0.02; done" if "--bg" in start else "true"
    dev.good(f"%%container busybox --untrusted --name dev {start}\nprintf '{text}' > /tmp/f; echo up; {script}")
    shown = "\ufffd]0;title\ufffddone\n"
    assert dev.good("%container exec dev cat /tmp/f") == shown
    assert dev.good("%%container --name dev\ncat /tmp/f") == shown
    assert "--trust-output" in dev.fails("%%container --name dev --trust-output\ntrue")
    if start == "--live":
        assert dev.good("%%container --name dev --live\ncat /tmp/f") == shown
        dev.good("%%container --name dev --live\necho '<b>x</b><script>1</script>' | display -t html")
        assert ["<script>" in str(one) for one in publisher.outputs if "<b>" in str(one)] == [False]
    dev.good("%container stop -t 0 dev")


def test_debug_of_an_untrusted_cell_is_untrusted(dev: Notebook) -> None:
    """Its programs are those of the cell: they get no more rights and limits, and control neither page nor terminal."""
    dev.fails(r"%%container busybox --untrusted --name dev" "\nexit 3")
    assert dev.good("%container debug dev grep CapEff /proc/self/status").split()[1] == "0" * 16
    assert dev.good(r"%container debug dev printf '\033]0;title\007'") == "\ufffd]0;title\ufffd"


def test_a_contradiction_is_one_error_wherever_it_comes_from(notebook: Notebook, tmp_path: Path) -> None:
    """On one line, by `use`, and by a cell after `use`; defaults of the notebook are left out instead."""
    assert "--untrusted cannot be combined with -v" in notebook.fails(
        f"%container use busybox --untrusted -v {tmp_path}:/x"
    )
    notebook.good("%container use busybox --untrusted")
    assert "--untrusted cannot be combined with --here" in notebook.fails("%%container --here\ntrue")
    notebook.good(f"%config ContainerMagics.volumes = ['{tmp_path}:/x']\n%config ContainerMagics.network = 'private'")
    assert notebook.good("%%container\nls -d /x || echo none") == "none\n"


def test_a_volume_of_the_image_is_no_way_to_write(notebook: Notebook, engine: Engine) -> None:
    """It is read-only as the rest of the image, and no volume is made for it."""
    run_script(engine, "mkdir /data", name="volumes")
    notebook.good("%container commit volumes with-volume --change 'VOLUME /data'")
    assert notebook.run("%%container with-volume --untrusted\ntouch /data/x").error is not None
    notebook.good("%%container with-volume --read-only\ntouch /data/x")


def test_without_control_groups_the_limits_are_those_of_processes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run starts, one line says so, and a process cannot have more memory than the limit."""
    monkeypatch.setattr(hierarchy, "can_make_group", lambda _: False)
    out: list[bytes] = []
    notices: list[str] = []
    words = ["--untrusted", "-m", "64m", "--pids-limit", "30", "busybox", "cat", "/proc/self/limits"]
    request = request_of(parse(RUN, words))
    streams = Streams(out.append, out.append, on_notice=notices.append)
    _, outcome = running.run(engine, request, streams)
    assert outcome.ok
    limits = {line[:26].strip(): line[26:].split()[0] for line in b"".join(out).decode().splitlines()}
    assert (limits["Max data size"], limits["Max address space"]) == (str(64 << 20), str(256 << 20))
    assert limits["Max processes"] == "30"
    assert len(notices) == 1
    assert "without control groups" in notices[0]
