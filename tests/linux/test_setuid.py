"""`--security-opt no-new-privileges=false`: setuid programs of the container work, and give no more than root has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.linux.process import capability_mask
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.requirements import require, require_root
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

ALLOWED: dict[str, Any] = {"security_opt": ["no-new-privileges=false"]}

_SHOWN = "sed -n 's/^\\(CapEff\\|CapBnd\\|Seccomp\\|NoNewPrivs\\|Uid\\):\\t*//p' /proc/self/status"


@pytest.fixture
def container(engine: Engine) -> Iterator[str]:
    """A container of this machine's programs, with `sed` and `setpriv` as setuid programs of root's."""
    if engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("this user's containers have root alone")
    require("sed", available=shutil.which("sed") is not None)
    script = "cp $(command -v sed) $(command -v setpriv) /opt; chmod 4755 /opt/sed /opt/setpriv"
    nbcontainer.run("host", script=script, name="setuid", engine=engine)
    yield "setuid"
    nbcontainer.get("setuid", engine=engine).remove()


def shown(engine: Engine, name: str, program: str = "/opt/sed", **options: Any) -> dict[str, str]:
    """What the kernel says of a process of the setuid program, which user 33 starts."""
    script = _SHOWN.replace("sed", program, 1)
    ran = nbcontainer.run("host", script=script, name=name, user="33", engine=engine, **options)
    uid, effective, bounding, no_new, seccomp = ran.text.splitlines()[:5]
    return {"uid": uid.split()[1], "has": effective, "can": bounding, "no_new_privs": no_new, "filter": seccomp}


def test_a_setuid_program_has_roots_capabilities_and_no_more(engine: Engine, container: str) -> None:
    """It is root of the container with the usual eleven, below the same filter; without the option, 33."""
    usual = f"{capability_mask(DEFAULT_CAPABILITIES):016x}"
    found = shown(engine, container, **ALLOWED)
    assert found == {"uid": "0", "has": usual, "can": usual, "no_new_privs": "0", "filter": "2"}
    found = shown(engine, container)
    assert found == {"uid": "33", "has": "0" * 16, "can": usual, "no_new_privs": "1", "filter": "2"}


def test_dropped_capabilities_stay_dropped(engine: Engine, container: str) -> None:
    """A setuid program gains nothing that `--cap-drop` took from the container."""
    assert shown(engine, container, cap_drop=["ALL"], **ALLOWED)["has"] == "0" * 16


def test_a_setuid_program_of_a_volume_gives_nothing(engine: Engine, container: str, tmp_path: Path) -> None:
    """Volumes are mounted nosuid, whatever the option says."""
    tmp_path.chmod(0o755)
    shutil.copy(shutil.which("sed") or "", tmp_path / "sed")
    (tmp_path / "sed").chmod(0o4755)
    found = shown(engine, container, "/volume/sed", volumes=[f"{tmp_path}:/volume"], **ALLOWED)
    assert (found["uid"], found["has"]) == ("33", "0" * 16)


def test_init_stays_closed(engine: Engine, container: str) -> None:
    """Root by a setuid program cannot look into process 1."""
    script = "/opt/sed -n p /proc/1/environ && echo read; /opt/sed -n p /proc/1/maps && echo read; true"
    ran = nbcontainer.run("host", script=script, name=container, user="33", engine=engine, **ALLOWED)
    assert "read" not in ran.text


def test_sudo_works(engine: Engine) -> None:
    """The program that people mean: root by sudo, where this machine has one.

    In a plain user's image `host`, the files of the machine's root do not belong to the container's root.
    """
    require_root()
    require("sudo")
    # The image `host` does not show this machine's own file, which root alone may read.
    allow = "echo 'ALL ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers; chmod 440 /etc/sudoers"
    nbcontainer.run("host", script=allow, name="with-sudo", engine=engine)
    try:
        ran = nbcontainer.run("host", ["sudo", "-n", "id", "-u"], name="with-sudo", user="33", engine=engine, **ALLOWED)
        assert ran.text == "0\n"
    finally:
        nbcontainer.get("with-sudo", engine=engine).remove()


@pytest.mark.parametrize("helper", ["0", "1"])
def test_what_a_setuid_program_leaves_ends_with_the_cell(engine: Engine, container: str, helper: str) -> None:
    """Init is the cell's user and may not kill a process that is root: that ends with init, and the cell has ended."""
    words = ["run", "--name", container, "-u", "33", "--security-opt", "no-new-privileges=false", "--timeout", "30"]
    leave = "mkfifo /tmp/up; /opt/setpriv --reuid=0 sh -c 'id -u >/tmp/up; exec sleep 1000' & cat /tmp/up; exit 3"
    done = subprocess.run(
        [sys.executable, "-m", "nbcontainer", *words, "host", "sh", "-c", leave],
        env={**os.environ, "NBCONTAINER_HOME": str(engine.store.path), "NBCONTAINER_HELPER": helper},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.stdout, done.returncode, done.stderr) == ("0\n", 3, "")


def test_what_a_setuid_program_writes_last_is_in_the_layer(engine: Engine, container: str) -> None:
    """It can write until init has ended: the layer is kept after that, and never changes again."""
    write = "while :; do date +%s.%N >>/tmp/out; done"
    leave = f"mkfifo /tmp/up; /opt/setpriv --reuid=0 sh -c 'id -u >/tmp/up; {write}' & cat /tmp/up; exit 3"
    nbcontainer.run("host", script=leave, name=container, user="33", check=False, engine=engine, **ALLOWED)
    box = nbcontainer.get(container, engine=engine)
    before = box.get("/tmp/out")
    assert box.run(["cat", "/tmp/out"]).stdout == before != b""
