"""Commands as Docker's users write them, by the program: what failed in practice, and what is near it."""

from __future__ import annotations

import json
import secrets
import subprocess
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.userns import idmap
from tests.cli.conftest import PROGRAM
from tests.requirements import require, require_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Program


@pytest.fixture
def name(program: Program) -> str:
    """A container's, an image's or a volume's name, of the test's own."""
    return f"test-{secrets.token_hex(4)}"


def test_a_change_of_path_keeps_the_images_programs(program: Program, name: str) -> None:
    """`commit --change 'ENV PATH=/opt/x:$PATH'` (moby/moby#35580)."""
    program.good("run", "--name", name, "busybox", "true")
    program.good("commit", "--change", "ENV PATH=/opt/x:$PATH", name, name)
    assert program.good("run", name, "sh", "-c", "echo $PATH").startswith("/opt/x:/usr/local/sbin:")


@pytest.mark.parametrize("change", ["VOLUME /data", "ONBUILD RUN true", "STOPSIGNAL SIGINT", "EXPOSE 8000-8003"])
def test_docker_commits_instructions_are_taken(program: Program, name: str, change: str) -> None:
    """They are in the configuration that `inspect -f` shows (moby/moby#5105)."""
    program.good("run", "--name", name, "busybox", "true")
    program.good("commit", "--change", change, name, name)
    field = {"V": "Volumes", "O": "OnBuild", "S": "StopSignal", "E": "ExposedPorts"}[change[0]]
    assert program.good("inspect", "-f", f"config.config.{field}", f"docker://{name}") in (
        '{"/data": {}}\n',
        '["RUN true"]\n',
        "SIGINT\n",
        json.dumps({f"{port}/tcp": {} for port in (8000, 8001, 8002, 8003)}) + "\n",
    )


def test_a_bind_mount_by_mount(program: Program, tmp_path: Path) -> None:
    """`--mount type=bind,source=…,target=/data,readonly` shows the directory (moby/moby#28150)."""
    (tmp_path / "file").touch()
    mount = f"type=bind,source={tmp_path},target=/data,readonly"
    assert (
        program.good("run", "--mount", mount, "busybox", "sh", "-c", "ls /data; touch /data/x 2>&1 | wc -l")
        == "file\n1\n"
    )


def test_a_named_volume_is_kept(program: Program, name: str) -> None:
    """The next run has its files."""
    program.good("run", "-v", f"{name}:/data", "busybox", "sh", "-c", "echo kept > /data/f")
    assert program.good("run", "-v", f"{name}:/data", "busybox", "cat", "/data/f") == "kept\n"
    assert json.loads(program.good("inspect", name))["Name"] == name
    assert program.good("volume", "rm", name) == f"removed {name}\n"


def test_options_of_a_tmpfs(program: Program, name: str) -> None:
    """The example of Docker's reference (moby/moby#18853), a part of the memory, and an owner."""
    program.good("run", "--tmpfs", "/run:rw,noexec,nosuid,size=65536k", "busybox", "true")
    assert program.good("run", "--tmpfs", "/run:mode=755", "busybox", "ls", "-ld", "/run").startswith("drwxr-xr-x")
    assert "tmpfs" in program.good("run", "--tmpfs", "/t:size=10%", "busybox", "df", "/t")
    if idmap.choose().kind != idmap.MapKind.SINGLE:
        owner = program.good("run", "--tmpfs", "/t:uid=1000,gid=1000", "busybox", "ls", "-ldn", "/t").split()[2:4]
        assert owner == ["1000", "1000"]


@pytest.mark.parametrize("options", "z Z ro,Z rw,z U cached delegated rslave nocopy".split())
def test_options_of_a_volume(program: Program, tmp_path: Path, options: str) -> None:
    """Those that mean nothing here are taken (galaxyproject/galaxy#18998)."""
    program.good("run", "-v", f"{tmp_path}:/data:{options}", "busybox", "true")


def test_a_volume_that_would_change_the_hosts_mounts_says_so(program: Program, tmp_path: Path) -> None:
    """`rshared` has a message of its own (docker/docker-py#2138)."""
    said = program.fails(2, "run", "-v", f"{tmp_path}:/data:rw,rshared", "busybox", "true")
    assert "unsupported mount option 'rshared'" in said
    assert "mounts of a container do not reach the host" in said


def test_the_end_of_a_line_in_an_env_file_is_kept(program: Program, tmp_path: Path) -> None:
    """docker/cli#3630."""
    (tmp_path / "env").write_bytes(b"A=1\nC= spaced \n")
    script = 'echo "$A|$C|"'
    assert program.good("run", "--env-file", str(tmp_path / "env"), "busybox", "sh", "-c", script) == "1| spaced |\n"


def test_lists_for_scripts(program: Program, name: str) -> None:
    """`ps -aq`, `images -q` and `volume ls -q` print what `rm`, `rmi` and `volume rm` take."""
    program.good("run", "--name", name, "busybox", "true")
    assert name in program.good("ps", "-a", "-q").splitlines()
    program.good("tag", "busybox", f"{name}:1")
    program.good("tag", "busybox", f"{name}:2")
    (digest,) = program.good("images", "-q", name).splitlines()
    assert len(digest) == 12
    assert program.good("images", "--no-trunc", "-q", name).startswith(f"sha256:{digest}")
    assert program.good("images", "-q", f"{name}:3") == ""
    assert "has several names" in program.fails(2, "rmi", digest)
    program.good("rm", "-v", name)
    assert program.good("rmi", "-f", f"{name}:1", f"{name}:2", f"{name}:3") == f"removed {name}:1, {name}:2\n"
    assert "no image" in program.fails(1, "rmi", f"{name}:1")


def test_what_is_missing_is_ignored_with_force(program: Program, name: str) -> None:
    """`rm -f`, `rmi -f` and `volume rm -f` of a missing name exit 0 and remove the others (docker/cli#2678)."""
    program.good("run", "--name", name, "busybox", "true")
    assert "no such container" in program.fails(1, "rm", f"{name}-missing")
    assert program.good("rm", "-f", f"{name}-missing", name) == f"removed {name}\n"
    for verb in (["rm"], ["rmi"], ["volume", "rm"]):
        assert program.good(*verb, "-f", name) == "nothing to remove\n"
    program.fails(2, "rm", "-f", "a name")


def test_fields_of_inspect(program: Program, name: str) -> None:
    """One line for each name; an unknown field lists those that there are."""
    program.good("run", "--name", name, "--label", "a.b=c", "busybox", "true")
    assert program.good("inspect", "-f", "{{.labels.a.b}}", name) == "c\n"
    assert program.good("inspect", "--format", "name", name, "busybox") == f"{name}\nbusybox\n"
    assert "the fields are" in program.fails(2, "inspect", "-f", "nosuch", name)


def archive(program: Program, name: str, tmp_path: Path) -> str:
    program.good("tag", "busybox", f"{name}:1")
    program.good("save", f"{name}:1", "busybox", "-o", str(tmp_path / "a.tar"))
    return f"docker-archive:{tmp_path}/a.tar:{name}:1"


def layout(program: Program, name: str, tmp_path: Path) -> str:
    program.good("tag", "busybox", f"{name}:1")
    program.good("save", f"{name}:1", "-o", f"{tmp_path}/layout/")
    return f"oci:{tmp_path}/layout:1"


@pytest.mark.parametrize("make", [archive, layout])
def test_transports_of_files(
    program: Program, name: str, tmp_path: Path, make: Callable[[Program, str, Path], str]
) -> None:
    """skopeo's names of files work where an image is named: `run`, `inspect`, `load`, `pull`, `export`."""
    word = make(program, name, tmp_path)
    program.good("rmi", f"{name}:1")
    assert program.good("run", word, "echo", "ran") == "ran\n"
    assert program.good("inspect", "-f", "config.architecture", word)
    assert program.good("load", word).startswith(f"{name}:1  ")
    program.good("rmi", f"{name}:1")
    assert program.good("pull", word).startswith(f"{name}:1  ")
    program.good("export", word, "-o", str(tmp_path / "root.tar"))
    program.good("tag", word, f"{name}:2")
    missing = word.rpartition(":")[0] + ":nosuch"
    assert "the file has no image" in program.fails(125, "run", missing, "true")
    assert "is the path of a file" in program.fails(2, "tag", "busybox", "oci:x")


def test_what_is_not_supported_is_answered(program: Program) -> None:
    """No neighbour is suggested."""
    assert program.fails(2, "run", "--gpus", "all", "busybox") == (
        "run: unsupported option '--gpus': GPUs are not supported yet; remove it"
    )
    assert program.fails(2, "build").startswith("unsupported verb 'build': ")
    assert "docker save" in program.fails(2, "run", "docker-daemon:busybox:1", "true")


def test_a_signal_for_stop(program: Program, name: str, tmp_path: Path) -> None:
    """`--stop-signal` takes the place of the image's."""
    script = "trap 'echo stopped; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    with (tmp_path / "out").open("wb") as out:
        running = program.start(
            "run", "--name", name, "--stop-signal", "INT", "busybox", "sh", "-c", script, stdout=out
        )
        while "ready" not in (tmp_path / "out").read_text():
            assert running.poll() is None
        assert "invalid time 'x'" in program.fails(2, "stop", "-t", "x", name)
        program.good("stop", "-t", "30", name)
        assert running.wait(60) == 7
    assert (tmp_path / "out").read_text() == "ready\nstopped\n"


def test_an_entrypoint_is_replaced_or_removed(program: Program) -> None:
    """`--entrypoint` with a program gets the command's words as its arguments; empty, the command is the program."""
    assert program("run", "--entrypoint", "/bin/echo", "busybox", "hello").stdout == "hello\n"
    assert program("run", "--entrypoint", "", "busybox", "echo", "hello").stdout == "hello\n"


@pytest.mark.slow
def test_a_volume_with_a_mount_of_proc_in_it_shows_its_files(program: Program, tmp_path: Path) -> None:
    """A mount of proc in a root user's volume can have no ids: the volume works, and a message names the mount."""
    require_root()
    require("unshare")
    (tmp_path / "v" / "p").mkdir(parents=True)
    (tmp_path / "v" / "file").touch()
    script = 'mount -t proc proc v/p && "$@"; code=$?; umount v/p; exit $code'
    words = [*PROGRAM, "run", "-v", "./v:/data", "busybox", "ls", "/data"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        cwd=tmp_path,
        env=program.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "file\np\n")
    assert f"{tmp_path}/v/p" in done.stderr
