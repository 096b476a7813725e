"""`nbcontainer` in a process: exit codes, streams, signals, and each verb."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer import __version__, cli
from nbcontainer.cli import _DEMO, _RUN
from nbcontainer.commands.containers import TERMINAL_VERBS, VERBS
from nbcontainer.errors import StoreError
from tests.cli.conftest import PROGRAM
from tests.requirements import require
from tests.running import all_dead, appear, marker, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Program

GATE = "while [ ! -e /gate/open ]; do usleep 10000; done"


def test_output_is_the_containers(program: Program) -> None:
    """What the container writes is what the program writes, stream for stream and byte for byte."""
    done = program("run", "busybox", "sh", "-c", "echo out; echo err >&2; printf 'no end'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\nno end", "err\n")
    raw = subprocess.run(
        [
            sys.executable,
            "-c",
            "from nbcontainer.cli import main; main()",
            "run",
            "busybox",
            "printf",
            "\\377\\000\\303",
        ],
        env=program.env,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert raw.stdout == b"\xff\x00\xc3"


@pytest.mark.parametrize("verb", ["run", "explain", "mounts"])
def test_a_container_in_the_place_of_an_image_is_named_as_one(program: Program, verb: str) -> None:
    """The error says how to use the container; before, the image of that name was only said to be out of reach."""
    assert program("run", "--name", "meant", "busybox", "true").returncode == 0
    done = program(verb, "--pull", "never", "meant")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "'meant' is a container: write `--name meant` to use that" in done.stderr


def test_the_module_is_the_program(program: Program) -> None:
    """`python -m nbcontainer` does the same as the console script."""
    command = [sys.executable, "-m", "nbcontainer"]
    done = subprocess.run(
        [*command, "run", "busybox", "sh", "-c", "echo out; exit 4"],
        env=program.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "out\n")
    done = subprocess.run([*command, "nope"], env=program.env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.partition(";")[0]) == (2, "nbcontainer: unknown verb 'nope'")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "exit 255"], 255),
    ],
)
def test_the_exit_code_is_the_containers(program: Program, words: list[str], code: int) -> None:
    """The program ends as the container did, and says nothing of its own."""
    done = program("run", "busybox", *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["busybox", "sh", "-c", "kill -KILL $$"], 137, "ended by SIGKILL"),
        (["busybox", "sh", "-c", "kill -SEGV $$"], 139, "ended by SIGSEGV"),
        (["--timeout", "0.3", "busybox", "sleep", "100"], 124, "stopped after its time limit ("),
        (["busybox", "no-such-program"], 127, "cannot run no-such-program: No such file or directory"),
        (["busybox", "/etc/passwd"], 126, "cannot run /etc/passwd: Permission denied"),
        (["busybox", "/etc"], 126, "cannot run /etc: Permission denied"),
        (["--pull", "never", "no-such-image", "true"], 125, "no image 'no-such-image' in the store"),
        (["-v", "/no/such:/x", "busybox", "true"], 125, "the volume's source '/no/such' does not exist; `mkdir -p"),
        (["-u", "nobody-at-all", "busybox", "true"], 125, "cannot become the user at /etc/passwd: no user"),
        (["--name", "not/a/name", "busybox", "true"], 2, "invalid container name 'not/a/name'; use up to 63 letters"),
        ([], 2, "run: missing image; write `run [OPTIONS] IMAGE"),
        (["--volum", "a:b", "busybox"], 2, "run: unknown option '--volum'; did you mean --volume"),
        (["-v", "a", "busybox"], 2, "invalid volume 'a': expected SRC:DST[:ro]; write -v SRC:DST"),
        (["-v"], 2, "missing value for --volume; write `-v, --volume SRC:DST[:ro|:cow]`"),
        (["-it", "busybox"], 2, "-it requires a terminal on standard input; remove -t, or -i"),
    ],
)
def test_what_goes_wrong_has_its_exit_code(program: Program, words: list[str], code: int, said: str) -> None:
    """128 and the signal, 124 to 127 as timeout and docker run have them, 2 for wrong words; and one line."""
    assert program.fails(code, "run", *words).startswith(said)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["no-such-verb"],
            2,
            "unknown verb 'no-such-verb'; see `nbcontainer --help`; to run an image of that name, write `nbcontainer",
        ),
        (["imags"], 2, "unknown verb 'imags'; did you mean images; see `nbcontainer --help`"),
        (["exce"], 2, "unknown verb 'exce'; did you mean exec"),
        (["kernal"], 2, "unknown verb 'kernal'; did you mean kernel"),
        (["restart", "x"], 2, "'restart' works only in a notebook; use it in the notebook that started the job"),
        (["restart", "--help"], 2, "'restart' works only in a notebook"),
        (["--no-such-option"], 2, "nbcontainer: unknown option '--no-such-option'"),
        (["--store"], 2, "missing value for --store"),
        (["--store", "", "ps"], 2, "invalid path ''"),
        (["ps", "extra"], 2, "ps: unexpected argument 'extra'; write `ps [OPTIONS]`"),
        (["rm"], 2, "rm: missing argument; write `rm [OPTIONS] CONTAINER...`"),
        (
            ["rm", "no-such-container"],
            1,
            "no such container: 'no-such-container'; list containers with `nbcontainer ps`",
        ),
        (
            ["rmi", "no-such-image"],
            1,
            "no image 'no-such-image' in the store; list the images with `nbcontainer images`",
        ),
        (["stop", "no-such-container"], 1, "no such container: 'no-such-container'"),
        (["diff"], 1, "no container yet, and none is named; run a cell with `nbcontainer run` first, or name"),
        (["pull", "host"], 2, "'host' is built in and cannot be pulled; use it directly: `nbcontainer run host`"),
        (["inspect", "no-such-thing"], 1, "no such container or image: 'no-such-thing'"),
        (["export", "busybox"], 2, "export: missing output file; write `export NAME -o FILE.tar`"),
        (["export", "no-such-thing", "-o", "x.tar"], 1, "no such container or image: 'no-such-thing'"),
        (["import", "-"], 2, "import: missing image name; write `import - NAME`"),
        (["import", "/no/such.tar", "x"], 1, "no file /no/such.tar; check the path"),
        (["commit", "no-such-container", "x"], 1, "no such container: 'no-such-container'"),
    ],
)
def test_wrong_words_of_verbs(program: Program, words: list[str], code: int, said: str) -> None:
    """A verb that cannot do it says in one line why, and ends with 1; wrong words end with 2."""
    assert program.fails(code, *words).startswith(said)


def test_standard_input_is_given_by_i_only(program: Program) -> None:
    """`-i` hands the standard input on, to its end; without it the container reads nothing."""
    assert program.good("run", "-i", "busybox", "wc", "-c", stdin="x" * 300_000) == "300000\n"
    assert program.good("run", "busybox", "wc", "-c", stdin="x" * 300_000) == "0\n"


def test_pipes_go_through(program: Program) -> None:
    """Two containers in a pipeline: one writes, the other reads."""
    with program.start("run", "busybox", "seq", "1000", stdout=subprocess.PIPE) as first:
        done = program("run", "-i", "busybox", "tail", "-n", "1", stdin=first.stdout)
    assert (first.returncode, done.stdout) == (0, "1000\n")


def test_a_reader_that_has_had_enough_ends_it(program: Program) -> None:
    """When nobody reads its output any more, the program ends as `yes` does, says nothing, and leaves nothing."""
    mark = marker()
    words = ("run", "busybox", "sh", "-c", f"sleep {mark} & yes")
    with program.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
    assert not processes_with(mark)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_the_container(program: Program, tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C, and whoever else ends the program, ends the container, also one that does not care."""
    mark = marker()
    words = ("run", "busybox", "sh", "-c", f"trap '' INT TERM HUP; echo up; sleep {mark}; sleep {mark}")
    with program.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        sleeping = pidfds(appear(mark, 1))
        process.send_signal(number)
        assert process.wait(20) == code
    assert all_dead(sleeping)
    assert not processes_with(mark)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_a_container_wrote_is_kept_when_a_signal_ends_the_program(
    fresh: Callable[[], Program], number: signal.Signals, code: int
) -> None:
    """The container's program gets SIGTERM, can write once more, and its changes are a state of the container."""
    program = fresh()
    script = "trap 'echo last > /last; exit 5' TERM; echo x > /file; echo up; sleep 1000 & wait"
    with program.start("run", "--name", "dev", "busybox", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(20) == code
    assert program.good("diff", "dev").split() == ["CHANGE", "PATH", "A", "/file", "A", "/last"]
    assert " exited  5 " in program.good("history", "dev")


@pytest.mark.parametrize("output", ["a pipe", "/dev/full"])
def test_what_a_container_wrote_is_kept_when_its_output_cannot_be_written(
    fresh: Callable[[], Program], output: str
) -> None:
    """A reader that has gone, as `head`, and a full disk end the container, and drop none of its changes."""
    program = fresh()
    words = ("run", "--name", "dev", "busybox", "sh", "-c", "echo x > /file; yes")
    if output == "a pipe":
        with program.start(*words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(2) == b"y\n"
            process.stdout.close()
    else:
        with Path(output).open("wb") as full, program.start(*words, stdout=full, stderr=subprocess.DEVNULL) as process:
            process.wait(20)
    assert process.returncode != 0
    assert program.good("diff", "dev").split() == ["CHANGE", "PATH", "A", "/file"]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_closed_standard_file_is_no_file_of_the_store(
    fresh: Callable[[], Program], closed: tuple[int, ...], tmp_path: Path
) -> None:
    """What a container writes goes to no file that was opened later, and errors are shown where they can be."""
    program = fresh()
    shell = " ".join(f"{fd}>&-" for fd in closed)
    command = [sys.executable, "-m", "nbcontainer", "run", "--name", "dev", "-i", "busybox"]
    script = f"exec {' '.join(command)} sh -c 'cat; echo out; echo err >&2; ls -l /proc/self/fd >&2; exit 3' {shell}"
    done = subprocess.run(
        ["sh", "-c", script], env=program.env, input=b"in\n", capture_output=True, timeout=60, check=False
    )
    if 1 in closed:
        assert done.stderr in (
            b"",
            b"nbcontainer: cannot write the container's output: Bad file descriptor; "
            b"write it to another place, as in `> FILE`\n",
        )
    else:
        assert (done.returncode, done.stdout) == (3, b"out\n" if 0 in closed else b"in\nout\n")
    for session in (Path(program.env["NBCONTAINER_HOME"]) / "sessions").glob("*"):
        assert b"out" not in session.read_bytes()
    assert program("images").returncode == 0


def test_errors_are_not_written_to_standard_output(program: Program) -> None:
    """A program without standard error says nothing, and has the same exit code."""
    command = f"exec {sys.executable} -m nbcontainer ps extra 2>&-"
    done = subprocess.run(["sh", "-c", command], env=program.env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_rm_removes_no_container_that_was_there_before_an_error(fresh: Callable[[], Program], tmp_path: Path) -> None:
    """A container stays if nothing could run in it, or if it has changes to a volume; after a run, it is removed."""
    program, volume = fresh(), tmp_path / "volume"
    volume.mkdir()
    program.good("run", "--name", "dev", "busybox", "sh", "-c", "echo work > /file")
    assert program("run", "--rm", "--name", "dev", "busybox", "no-such-program").returncode == 127
    assert program("run", "--rm", "--name", "new", "busybox", "no-such-program").returncode == 127
    assert program.good("ps", "-q") == "dev\n"
    program.good("run", "--name", "dev", "-v", f"{volume}:/data:cow", "busybox", "touch", "/data/x")
    assert "are not applied; `nbcontainer apply dev` writes them" in program.fails(
        125, "run", "--rm", "--name", "dev", "busybox", "true"
    )
    program.good("apply", "dev")
    program.good("run", "--rm", "--name", "dev", "busybox", "true")
    assert program.good("ps", "-q") == ""


def test_a_killed_program_leaves_nothing(program: Program) -> None:
    """SIGKILL of the program ends the container too."""
    mark = marker()
    words = ("run", "busybox", "sh", "-c", f"trap '' INT TERM HUP; echo up; sleep {mark}; sleep {mark}")
    with program.start(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        sleeping = pidfds(appear(mark, 1))
        process.kill()
    assert all_dead(sleeping)
    assert not processes_with(mark)


def test_a_container_goes_on_in_the_next_program(fresh: Callable[[], Program], tmp_path: Path) -> None:
    """What `run --name` leaves is there for the next program, which can commit, export, list and remove it."""
    program = fresh()
    program.good("run", "--name", "dev", "busybox", "sh", "-c", "echo kept > /file; rm /bin/vi")
    assert program.good("run", "--name", "dev", "--", "busybox", "cat", "/file") == "kept\n"
    assert program.good("diff", "dev").split() == ["CHANGE", "PATH", "C", "/bin", "D", "/bin/vi", "A", "/file"]
    lines = program.good("history", "dev").splitlines()
    assert [line.split()[0] for line in lines] == ["CELL", "1", "2"]
    assert program.good("commit", "dev", "app", "--change", 'CMD ["cat", "/file"]').startswith("app  sha256:")
    assert program.good("run", "app") == "kept\n"
    assert program.good("export", "app", "-o", str(tmp_path / "app.tar")).startswith(f"{tmp_path}/app.tar  ")
    with tarfile.open(tmp_path / "app.tar") as tar:
        assert "file" in tar.getnames()
        assert "bin/vi" not in tar.getnames()
    assert program.good("import", str(tmp_path / "app.tar"), "again").startswith("again  sha256:")
    assert program.good("run", "again", "cat", "/file") == "kept\n"
    assert program.good("rm", "dev") == "removed dev\n"
    assert program.good("rmi", "app", "again") == "removed app, again\n"


def test_a_renamed_container_keeps_its_files(program: Program) -> None:
    """`rename` takes the files and the container's own volume along; the next run with the old name is a new one."""
    write = "echo kept > /file; echo kept > /data/file"
    program.good("run", "--name", "dev", "-v", "/data", "busybox", "sh", "-c", write)
    assert program.good("rename", "dev", "model") == "dev is now model\n"
    read = ("busybox", "cat", "/file", "/data/file")
    assert program.good("run", "--name", "model", "-v", "/data", "--", *read) == "kept\nkept\n"
    done = program("rename", "dev", "other")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no such container: 'dev'" in done.stderr
    assert program("run", "--name", "dev", "busybox", "cat", "/file").returncode == 1
    assert program.good("rm", "dev", "model") == "removed dev, model\n"


def test_a_tar_goes_through_pipes(program: Program) -> None:
    """`export -o -` writes to standard output and `import -` reads standard input: images travel by ssh."""
    export = [sys.executable, "-c", "from nbcontainer.cli import main; main()", "export", "busybox", "-o", "-"]
    program.good("run", "busybox", "true")
    with subprocess.Popen(export, env=program.env, stdout=subprocess.PIPE) as first:
        done = program("import", "-", "piped", stdin=first.stdout)
    assert done.returncode == 0, done
    assert program.good("run", "piped", "echo", "here") == "here\n"
    program.good("rmi", "piped")


@pytest.mark.parametrize("verb", ["export", "save"])
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_a_tar_goes_to_standard_output_that_is_a_file(program: Program, tmp_path: Path, verb: str, name: str) -> None:
    """`-o - > FILE` writes to that file, and `-o /dev/stdout` too: no name in /dev is replaced."""
    program.good("run", "busybox", "true")
    words = [sys.executable, "-c", "from nbcontainer.cli import main; main()", verb, "busybox", "-o", name]
    with (tmp_path / "x.tar").open("wb") as file:
        subprocess.run(words, env=program.env, stdout=file, check=True)
    assert tarfile.is_tarfile(tmp_path / "x.tar")
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (("save", "busybox", "-o", "-"), ">"),
        (("export", "busybox", "-o", "-"), ">"),
        (("load", "-"), "<"),
        (("import", "-", "new"), "<"),
    ],
)
def test_a_terminal_takes_and_gives_no_tar(program: Program, words: tuple[str, ...], way: str) -> None:
    """`-` on a terminal is one line with the way out, before anything is read or written."""
    program.good("run", "busybox", "true")
    control, terminal = os.openpty()
    stdin, stdout = (terminal, None) if way == "<" else (None, terminal)
    done = subprocess.run(
        [*PROGRAM, *words], env=program.env, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False
    )
    os.set_blocking(control, False)
    with pytest.raises(BlockingIOError):
        os.read(control, 1)
    os.close(control)
    os.close(terminal)
    line = f"{' '.join(words)} {way} FILE.tar"
    expected = f"{words[0]}: `-` is a tar, and this is a terminal; use a pipe or a file, as in `{line}`"
    assert done.stderr.decode() == f"nbcontainer: {expected}\n"


def test_answers_are_json_where_wanted(program: Program) -> None:
    """`--json` gives every answer as JSON."""
    program.good("run", "--name", "dev", "busybox", "true")
    rows = json.loads(program.good("--json", "ps"))
    assert ("dev", "busybox", "stopped") in [(row["name"], row["image"], row["state"]) for row in rows]
    assert "busybox" in {row["image"] for row in json.loads(program.good("--json", "images"))}
    assert json.loads(program.good("--json", "diff", "dev")) == []
    assert json.loads(program.good("--json", "inspect", "dev"))["name"] == "dev"
    assert json.loads(program.good("inspect", "dev", "busybox"))[1]["name"] == "busybox"
    assert json.loads(program.good("--json", "rm", "dev")) == "removed dev"
    assert "removed" in json.loads(program.good("--json", "prune"))


def test_json_of_a_run_has_the_outcome_that_history_has(program: Program) -> None:
    """A run as JSON has its output as text and its outcome with numbers, in the form of `history` and `inspect`."""
    words = ["run", "--name", "dev", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]
    done = program("--json", *words)
    assert done.returncode == 3
    said = json.loads(done.stdout)
    assert (said["container"], said["image"], said["stdout"], said["stderr"]) == ("dev", "busybox", "out\n", "err\n")
    assert (said["outcome"]["exit_code"], type(said["outcome"]["wall_time"])) == (3, float)
    (cell,) = json.loads(program.good("history", "dev", "--json"))
    assert cell["outcome"] == said["outcome"]
    assert json.loads(program.good("inspect", "dev"))["cells"][0]["outcome"] == said["outcome"]
    assert program.fails(2, "--json", "run", "-t", "busybox").startswith("--json and -t exclude each other")


def test_an_encoding_without_the_signs_is_no_failure(program: Program) -> None:
    """Where the locale's encoding has no sign for a state, its word is there."""
    done = program("doctor", env={**program.env, "PYTHONIOENCODING": "ascii"})
    assert "? ok" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [*TERMINAL_VERBS, "run", "demo"])
def test_every_verb_says_how_it_is_written(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`VERB --help` gives the verb's usage and its options, and starts nothing."""
    command = {"run": _RUN, "demo": _DEMO}.get(verb) or VERBS[verb].command
    monkeypatch.setenv("NBCONTAINER_HOME", "/proc/no/such")

    def help_by(option: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([verb, option])
        assert ended.value.code == 0
        return capsys.readouterr().out

    said = help_by("--help")
    assert said.startswith(f"usage: nbcontainer {command.usage}\n")
    if verb != "run":  # where it is the host name
        assert said == help_by("-h")
    for option in command.options:
        assert str(option) in said


def test_the_overview_has_every_verb(program: Program) -> None:
    """Without words, and with `--help`, the program lists what it can do."""
    said = program.good()
    assert said == program.good("--help") == program.good("-h")
    for verb in (*TERMINAL_VERBS, "run", "demo"):
        assert f"\n  {verb} " in said
    assert VERBS.keys() - TERMINAL_VERBS.keys() == {"restart"}
    assert "restart" not in said
    assert program.good("--version") == f"nbcontainer {__version__}\n"


def test_the_demo_runs(fresh: Callable[[], Program], tmp_path: Path) -> None:
    """`nbcontainer demo` executes the quick start for real, shows its outputs, and leaves nothing behind."""
    program = fresh()
    work = tmp_path / "work"
    work.mkdir()
    said = program.good("demo", cwd=work)
    for text in (
        "hello from ",
        "rain: 15",
        "it is mine: True",
        "/bin/vi\n/etc\n",
        "the answer is 42",
        "srv/app/run.sh",
    ):
        assert text in said
    assert "Traceback" not in said
    assert not list(work.iterdir())
    assert not list((program.store / "sessions").iterdir())
    assert not list((program.store / "tmp").iterdir())


@pytest.mark.parametrize(
    ("home", "said"),
    [
        ("/dev/null", "cannot open the store at /dev/null: "),
        ("/dev/null/store", "cannot open the store at /dev/null/store: Not a directory; set NBCONTAINER_HOME"),
        ("/proc/store", "cannot open the store at /proc/store: "),
    ],
)
def test_a_store_that_cannot_be(program: Program, home: str, said: str) -> None:
    """A file, a place in a file and a place where nothing can be made are no stores: one line says what to set."""
    for words in (("run", "busybox", "true"), ("images",)):
        complaint = program.fails(
            125 if words[0] == "run" else 1, *words, env={**program.env, "NBCONTAINER_HOME": home}
        )
        assert complaint.startswith(said)
        assert "NBCONTAINER_HOME" in complaint


@pytest.fixture
def removed(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The working directory is one that was removed; an environment in which Python itself does not look there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    return {**program.env, "PYTHONSAFEPATH": "1"}


@pytest.mark.parametrize(
    "line",
    [
        *("run -v .:/x busybox true", "run --mount type=bind,src=.,target=/x busybox true"),
        *("run --env-file e busybox true", "run --stdin @e busybox true", "run ./x.tar true", "import x.tar y"),
        *("--store rel images", "--store rel doctor", "--store rel kernel freeze a b", "explain -v a/b:/x busybox"),
        *("export busybox -o x.tar", "save busybox -o x.tar", "cache export x"),
    ],
)
def test_a_removed_directory_is_one_line(program: Program, removed: dict[str, str], line: str) -> None:
    """A relative path leads nowhere if the working directory was removed, in whatever option or verb."""
    said = "the current directory was removed; change to another one with `cd`"
    assert program.fails(2, *line.split(), env=removed) == said


def test_a_removed_directory_keeps_nothing_from_running(program: Program, removed: dict[str, str]) -> None:
    """Without a relative path, a run does not need it; a variable with one is not passed to the container."""
    env = {**removed, "SSL_CERT_FILE": "ca.pem"}
    done = program("run", "--rm", "--network", "private", "host", "pwd", env=env)
    assert (done.returncode, done.stdout) == (0, "/\n"), done


@pytest.mark.parametrize("store", ["loop", "loop/x", "one/x"])
def test_links_in_a_circle_are_no_store(program: Program, tmp_path: Path, store: str) -> None:
    """The error is one line, for each verb and for `doctor`, which shows it."""
    for name, target in (("loop", "loop"), ("one", "other"), ("other", "one")):
        (tmp_path / name).symlink_to(target)
    said = (
        f"cannot open the store at {tmp_path.resolve()}/{store}: Too many levels of symbolic links; "
        "check the path: its symbolic links lead in a circle"
    )
    assert program.fails(1, "--store", f"{tmp_path}/{store}", "ps") == said
    assert program.fails(125, "--store", store, "run", "busybox", "true", cwd=tmp_path) == said
    assert "Too many levels of symbolic links" in program("--store", f"{tmp_path}/{store}", "doctor").stdout


@pytest.mark.parametrize("line", ["run busybox true", "exec box true", "debug box", "ps"])
def test_what_the_kernel_refuses_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """An `OSError` of any verb has the verb and what to do, in one line."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for name in ("_run", "_exec", "_debug", "Invocation"):
        monkeypatch.setattr(cli, name, refuse)
    with pytest.raises(StoreError, match=r"^cannot do (run|exec|debug|ps) at .*: Too many open files; raise the limit"):
        cli._main(["--store", str(tmp_path / "store"), *line.split()])


def test_a_full_directory_does_not_become_a_store(program: Program, tmp_path: Path) -> None:
    """A directory with something else in it is left as it is: its mode would be changed, and its files be rubbish."""
    (tmp_path / "thesis.txt").write_text("precious")
    tmp_path.chmod(0o755)
    complaint = program.fails(1, "images", env={**program.env, "NBCONTAINER_HOME": str(tmp_path)})
    assert complaint.startswith(
        f"{tmp_path} is not empty and is not an nbcontainer store; set NBCONTAINER_HOME to a new directory"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_store_nobody_may_write_to(program: Program, tmp_path: Path) -> None:
    """A store on a read-only file system, and one of another's, say so in one line."""
    require("unshare")
    place = tmp_path / "place"
    place.mkdir()
    script = f'mount -t tmpfs -o ro none {place} && exec "$@"'
    assert private(program, script, place, "images").startswith(
        f"cannot open the store at {place}: Read-only file system; set NBCONTAINER_HOME to a directory on a writable"
    )
    if os.geteuid() != 0:
        place.chmod(0o555)
        complaint = program.fails(1, "images", env={**program.env, "NBCONTAINER_HOME": str(place / "store")})
        assert complaint == (
            f"cannot open the store at {place}/store: Permission denied; "
            "set NBCONTAINER_HOME to a directory of your own"
        )


def test_no_space_left(program: Program, tmp_path: Path) -> None:
    """A store that is full says so in one line, and has nothing half-made in it."""
    place = tmp_path / "place"
    place.mkdir()
    look = f"; find {place}/tmp {place}/layers {place}/blobs -mindepth 1 ! -name sha256 >&2; exit 5"
    script = f'mount -t tmpfs -o size=1500k none {place} && ! "$@"{look}'
    said = private(program, script, place, "run", "busybox", "true", code=5)
    assert said.startswith(f"cannot add an image to the store at {place}: No space left on device; free some space")


def private(program: Program, script: str, place: Path, *words: str, code: int = 1) -> str:
    """Runs the program after a shell script in a mount namespace of its own: its complaint, in one line."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    probe = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", place], capture_output=True, check=False)
    require("mounts", available=probe.returncode == 0, why=f"cannot mount in a namespace: {probe.stderr!r}")
    main = [sys.executable, "-c", "from nbcontainer.cli import main; main()", *words]
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", *main],
        env={**program.env, "NBCONTAINER_HOME": str(place)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done
    assert done.stderr.count("\n") == 1, done
    return done.stderr.removeprefix("nbcontainer: ").rstrip("\n")


def test_a_kernel_without_user_namespaces(program: Program) -> None:
    """Where no user namespace can be made, the program says in one line what to set, and doctor says the same."""
    require("unshare")
    with contextlib.suppress(subprocess.TimeoutExpired):
        probe = subprocess.run(
            ["unshare", "-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces"], check=False, timeout=20
        )
        require("namespaces", available=probe.returncode == 0, why="cannot forbid user namespaces in one")
    main = [sys.executable, "-c", "from nbcontainer.cli import main; main()", "run", "busybox", "true"]
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh", *main],
        env=program.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 125, done
    assert "user.max_user_namespaces" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["run", "busybox", "echo", "x"], ["images"], ["--version"]])
def test_an_output_that_takes_nothing(program: Program, words: list[str]) -> None:
    """A disk that is full on the other side of the standard output is said in one line."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        main = [sys.executable, "-c", "from nbcontainer.cli import main; main()", *words]
        done = subprocess.run(
            main, env=program.env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode in (1, 125)
    assert done.stderr.startswith("nbcontainer: cannot write ")
    assert done.stderr.endswith(": No space left on device; write it to another place, as in `> FILE`\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_results_go_to_another_store(program: Program, fresh: Callable[[], Program], tmp_path: Path) -> None:
    """`cache export` and `cache import`: the cell does not run there. Bad words and files are one line."""
    command = ("run", "--cache", "--rm", "busybox", "sh", "-c", "cat /proc/sys/kernel/random/uuid; echo > /made")
    first = program.good(*command)
    file, other = tmp_path / "results", fresh()
    assert "result" in program.good("cache", "export", str(file))
    assert "imported" in other.good("cache", "import", str(file))
    ran = other(*command)
    assert (ran.returncode, ran.stdout) == (0, first)
    assert ran.stderr.startswith("nbcontainer: cached: computed at ")
    assert ran.stderr.endswith(", imported\n")
    assert program.fails(2, "cache", "inport", "x").startswith("unknown verb 'cache inport'")
    assert "missing argument" in program.fails(2, "cache", "import")
    missing = program.fails(1, "cache", "import", str(tmp_path / "none"))
    assert missing.endswith("none: No such file or directory; name a file that `nbcontainer cache export FILE` wrote")
    assert "not a regular file" in program.fails(1, "cache", "import", str(tmp_path))
    assert "invalid value 'maybe' for --cache" in program.fails(2, "run", "--cache=maybe", "busybox", "true")
