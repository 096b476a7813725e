"""`--in`, `--get` and `--show`: values between the notebook and a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from PIL import Image

from nbcontainer.containers import run as running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.commit import commit
from nbcontainer.containers.snapshot import frozen_copy
from nbcontainer.sandbox.spec import Values
from tests.running import run_script

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


def test_variables_are_files_and_short_ones_are_in_the_environment(notebook: Notebook) -> None:
    """A text, a number, bytes and a dictionary; a name that the image sets stays."""
    notebook["a"], notebook["n"], notebook["raw"], notebook["d"] = "hello", 3, b"\0\1", {"k": [1, 2]}
    notebook["TERM"] = "other"
    said = notebook.good(
        "%%container busybox --in a,n,raw --in d,TERM -e SET=1 --in SET=2\n"
        'ls /in; cat /in/a.txt /in/n.json /in/d.json; echo; wc -c < /in/raw.bin; echo "$a $n [$d] $TERM $SET"'
    )
    assert said == 'SET.json\nTERM.txt\na.txt\nd.json\nn.json\nraw.bin\nhello3{"k": [1, 2]}\n2\nhello 3 [] dumb 1\n'


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("x=d['k'][0]", "1"),
        ('x=d["k"][1]', "2"),
        ("x=len('a b')", "3"),
        ("x={'a': {1: 2}[1]}['a']", "2"),
        ("'x=1 + 2'", "3"),
        ("x=[i for i in range(2)]", "[0, 1]"),
        ("x=d['k'] --in y=1", "[1, 2]"),
        ("=d --in x=0", None),
    ],
)
def test_an_expression_is_one_word_of_the_line(notebook: Notebook, written: str, value: str | None) -> None:
    """Its quotes and brackets are Python's, and braces are not filled in."""
    notebook["d"] = {"k": [1, 2]}
    if value is None:
        assert "invalid variable name" in notebook.fails(f"%%container busybox --in {written}\ntrue")
    else:
        assert notebook.good(f"%%container busybox --in {written}\ncat /in/x.json") == value


def test_files_come_back_as_the_objects_that_they_hold(notebook: Notebook) -> None:
    """By the suffix; an unknown one is bytes, and a path names a file below /out."""
    notebook["frame"], notebook["array"] = pd.DataFrame({"n": [1, 2]}), np.arange(6).reshape(2, 3)
    notebook["picture"] = Image.new("RGB", (2, 1), "red")
    notebook.good(
        "%%container busybox --in frame,array,picture --get frame2=frame.arrow --get array2=/out/array.npy"
        " --get picture2=picture.png --get text --get value --get table --get odd --get deep=a/b.json\n"
        'cp /in/* /out; mkdir /out/a; printf "a b\\n" > /out/text.txt\n'
        'echo "[1]" | tee /out/a/b.json > /out/value.json\n'
        'printf "n\\n1\\n" > /out/table.csv; printf x > /out/odd.thing'
    )
    pd.testing.assert_frame_equal(notebook["frame2"], notebook["frame"])
    assert np.array_equal(notebook["array2"], notebook["array"])
    assert notebook["picture2"].tobytes() == notebook["picture"].tobytes()
    assert (notebook["text"], notebook["value"], notebook["odd"], notebook["deep"]) == ("a b\n", [1], b"x", [1])
    assert list(notebook["table"]["n"]) == [1]


@pytest.mark.parametrize(
    ("options", "script", "message"),
    [
        ("--get y", "true", "ValueUnavailable: the cell left no file /out/y.*; let the cell write"),
        (
            "--get y",
            ": >/out/y.txt; : >/out/y.bin",
            "ValueUnavailable: the cell left several files /out/y.*: y.bin, y.txt",
        ),
        ("--get y=q.txt", "true", "ValueUnavailable: cannot read /out/q.txt: No such file or directory; let"),
        ("--get y", "echo '{' >/out/y.json", "ValueUnavailable: /out/y.json is not a valid .json file: "),
        ("--get y=/etc/passwd", "true", "UsageError: --get: '/etc/passwd' is not a file in /out; write"),
        ("--get y=../in/x", "true", "UsageError: --get: '../in/x' is not a file in /out"),
        ("--get y --get y", "true", "UsageError: --get sets 'y' twice"),
        ("--get 1y", "true", "UsageError: --get: invalid variable name '1y'; write --get NAME"),
        ("--get", "true", "UsageError: missing value for --get"),
        ("--in missing", "true", "UsageError: --in: the notebook has no variable 'missing'; set it, or write"),
        ("--in x=1/0", "true", "UsageError: cannot evaluate --in x=1/0: ZeroDivisionError: division by zero"),
        ("--in x=(", "true", "UsageError: cannot evaluate --in x=(: SyntaxError: '(' was never closed"),
        ("--in x=1 --in x=2", "true", "UsageError: --in passes 'x' twice"),
        ("--in x=print", "true", "UsageError: cannot pass x: no codec for a value of type"),
        ("--in x={'a':print}", "true", "UsageError: cannot pass x as /in/x.json: Object of type builtin_function"),
        ("--in x='\\ud800'", "true", "UsageError: cannot pass x as /in/x.txt: 'utf-8' codec can't encode"),
        ("--in x=1 --tmpfs /in", "true", "UsageError: /in holds the values of --in, --get and --show"),
    ],
)
def test_what_cannot_be_passed_is_one_line(notebook: Notebook, options: str, script: str, message: str) -> None:
    """No variable changes, and the next cell runs."""
    notebook["y"] = "kept"
    assert notebook.fails(f"%%container busybox {options}\n{script}").startswith(message)
    assert notebook["y"] == "kept"
    assert notebook.good("%%container busybox\necho next") == "next\n"


def test_a_failed_cell_sets_no_variable(notebook: Notebook) -> None:
    """Neither does one whose second value is missing."""
    notebook["y"] = "kept"
    assert "exit code 1" in notebook.fails("%%container busybox --get y\necho new > /out/y.txt; false")
    assert "no file /out/z" in notebook.fails("%%container busybox --get y --get z\necho new > /out/y.txt")
    notebook.good("%%container busybox --no-raise-error --get y\necho new > /out/y.txt; false")
    assert notebook["y"] == "kept"


def test_values_are_in_no_diff_and_no_commit(notebook: Notebook, engine: Engine) -> None:
    """Neither are the directories; the cell can write to its output alone, as any user, and to the image as ever."""
    notebook["x"] = "1"
    script = "ls -d /in /out; echo > /in/x.txt; echo > /in/new; echo 2 > /out/y.txt; echo > /file"
    ran = notebook.good(f"%%container busybox --name dev --in x --get y\n{script}")
    assert ran == "/in\n/out\n"
    assert notebook["y"] == "2\n"
    assert notebook.run("%container diff dev").value.rows == (("A", "/file"),)
    assert "/in" not in notebook.good("%%container --name dev\nls -d /in /out 2>/dev/null || true")
    notebook.good("%container rm dev")
    other_user = () if engine.single_id else ("-u 1000",)
    for options in ("", "--storage 1m", *other_user, "--read-only", "host"):
        image = "" if options == "host" else "busybox"
        notebook.good(f"%%container {image} {options} --in x --get y\nsed s/1/3/ /in/x.txt > /out/y.txt")
        assert notebook["y"] == "3"
        assert not notebook.run("%container diff").value.rows


def test_a_copy_of_a_running_container_has_no_values(engine: Engine, notebook: Notebook) -> None:
    """What is committed while the cell runs is what the cell changed."""
    seen: list[Any] = []

    def copied(_: bytes) -> None:
        with frozen_copy(engine, "dev") as copy:
            seen.append(commit(copy, "made"))
        raise KeyboardInterrupt  # the cell has run long enough

    streams = Streams(copied, copied, values=Values(("x.txt",), output=True))
    running.run(engine, Request("busybox", "dev", script="echo > /file; echo seen; sleep 1000"), streams)
    assert seen
    assert run_script(engine, "ls -d /file /in /out 2>/dev/null; true", image="made").text == "/file"
    notebook.good("%container rm dev")
    notebook.good("%container rmi made")


def test_a_storage_limit_holds_for_the_output(notebook: Notebook) -> None:
    """It is as large as what the cell may write elsewhere."""
    script = "dd if=/dev/zero of=/out/y.bin bs=4096 count=1000 2>&1 | tail -1"
    said = notebook.run(f"%%container busybox --storage 1m --no-raise-error --get y\n{script}; ls -l /out")
    assert " 1048576 " in said.stdout + said.stderr


def test_the_files_of_a_cell_are_shown(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names; what could run code is refused in one line, unless the notebook trusts it."""
    publisher = CapturingDisplayPublisher()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(notebook.shell, "display_pub", publisher)
    script = (
        "echo '<b onclick=\"x()\">B</b><script>x()</script>' > /out/a.html; echo '<svg></svg>' > /out/b.svg\n"
        "printf 'n,t\\n1,<i>\\n' > /out/c.csv; echo '[1]' > /out/d.json; echo '# T' > /out/e.md; echo 1 > /out/f.js\n"
        "echo no > /out/g.png; ln -s /etc/passwd /out/h.html; echo > /out/other"
    )
    ran = notebook.run(f"%%container busybox --show\n{script}")
    shown = [bundle["data"] for bundle in publisher.outputs]
    assert ["text/html" in one for one in shown] == [True, True, True, False, True, False]
    assert (shown[3]["application/json"], set(shown[5])) == ([1], {"text/plain", "image/png"})
    assert shown[0]["text/html"].strip() == "<b>B</b>"
    assert shown[1]["text/html"].startswith("<img ")
    assert "&lt;i&gt;" in shown[2]["text/html"]
    assert "<h1>T</h1>" in shown[4]["text/html"]
    assert [line.partition(":")[2].strip()[:20] for line in ran.stderr.splitlines()] == [
        "/out/f.js: applicati",
        "cannot read /out/h.h",
    ]
    publisher.outputs.clear()
    notebook.good(
        "%%container busybox --show --trust-output\necho '<script>x()</script>' > /out/a.html; echo 1 > /out/f.js"
    )
    assert [sorted(one["data"])[0] for one in publisher.outputs] == ["text/html", "application/javascript"]
    assert "<script>" in publisher.outputs[0]["data"]["text/html"]


def test_an_interrupt_while_a_value_is_written_ends_the_cell(notebook: Notebook) -> None:
    """A codec may take long; nothing is left of the container, and the next cell runs."""

    class Slow(dict[str, int]):
        def items(self) -> Any:
            raise KeyboardInterrupt

    notebook["x"] = Slow(a=1)
    ran = notebook.run("%%container busybox --in x\necho ran")
    assert "ran" not in ran.stdout.replace("interrupted", "")
    assert ran.error is not None
    assert notebook.good("%%container busybox\necho next") == "next\n"
