"""`/out` as an attacker leaves it: nothing of the host is read, nothing runs, nothing waits, and memory is bounded."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers import run as running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ValueUnavailable
from nbcontainer.values import received, show
from nbcontainer.values.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's."""
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    return path


class Left:
    """What a cell left in /out."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.exchange = Exchange({}, output=True)

    def by(self, script: str, **options: Any) -> Exchange:
        """Runs an attacker's cell."""
        streams = Streams(lambda _: None, lambda _: None, values=self.exchange.values, on_values=self.exchange.send)
        request = Request("busybox", script=f"cd /out; {script}", remove=True, options=run_options(options))
        running.run(self.engine, request, streams)
        return self.exchange


@pytest.fixture
def left(engine: Engine) -> Iterator[Left]:
    """A cell's output, closed at the end."""
    found = Left(engine)
    yield found
    found.exchange.close()


LEFT = {
    "link": "ln -s {secret} y.txt",
    "relative link": "ln -s ../../../../../../../../{secret} y.txt",
    "link to itself": "ln -s y.txt y.txt",
    "link to a descriptor": "ln -s /proc/self/fd/0 y.txt",
    "pipe": "mkfifo y.txt",
    "directory": "mkdir y.txt",
    "device": "mknod y.txt c 1 3 || mkdir y.txt",
    "socket": "nc -lU y.txt & sleep 0.1; [ -S y.txt ] || mkdir y.txt",
    "sparse file": "truncate -s 10G y.txt || dd if=/dev/zero of=y.txt bs=1 count=0 seek=10G",
    "mount": "mkdir y.txt && mount -t tmpfs none y.txt",
}


@pytest.mark.parametrize("kind", LEFT)
def test_only_a_regular_file_of_bounded_size_is_read(kind: str, left: Left, secret: Path) -> None:
    """A link leads nowhere, and nothing waits for a pipe."""
    exchange = left.by(LEFT[kind].format(secret=secret))
    with pytest.raises(ValueUnavailable, match=r"cannot read /out/y\.txt"):
        exchange.get({"y": ""})
    assert [one for one in show.bundles(exchange, trust=True) if isinstance(one, dict)] == []


def test_a_directory_on_the_way_leads_nowhere(left: Left, secret: Path) -> None:
    """A path below /out goes through directories alone."""
    exchange = left.by(f"ln -s {secret.parent} a; mkdir b; ln -s {secret.parent} b/c; ln -s / d")
    for path in ("a/secret.txt", "b/c/secret.txt", f"d{secret}", "b/../a/secret.txt", "../in/x"):
        with pytest.raises(ValueUnavailable, match="cannot read /out/"):
            exchange.get({"y": path})


def test_a_thousand_names_are_counted_and_no_name_controls_a_terminal(left: Left) -> None:
    """More names than can be looked at are one error; strange ones are shown without what a terminal obeys."""
    exchange = left.by("touch \"$(printf 'y.\\033[31mred\\n')\" y.txt")
    with pytest.raises(ValueUnavailable, match=r"y\.\?\[31mred") as error:
        exchange.get({"y": ""})
    assert str(error.value).isprintable()
    many = Left(left.engine)
    with (
        many.by(f"seq {received.NAMES_LIMIT + 1} | xargs touch") as full,
        pytest.raises(ValueUnavailable, match="names"),
    ):
        full.get({"y": ""})


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.putenv, ("NBCONTAINER_TEST_BOMB", "1"))


def test_a_pickle_is_bytes(left: Left) -> None:
    """Whatever its name is, it is never unpickled."""
    octal = "".join(f"\\{byte:03o}" for byte in pickle.dumps(Bomb()))
    names = ("pkl", "npy", "json", "arrow", "parquet", "bin")
    exchange = left.by(f"printf '{octal}' > a.pkl; " + "; ".join(f"cp a.pkl y{name}.{name}" for name in names))
    assert isinstance(exchange.get({"ypkl": ""})["ypkl"], bytes)
    assert isinstance(exchange.get({"ybin": ""})["ybin"], bytes)
    for name in ("npy", "json", "arrow", "parquet"):
        with pytest.raises(ValueUnavailable, match="is not a valid"):
            exchange.get({f"y{name}": ""})
    assert "NBCONTAINER_TEST_BOMB" not in os.environ


def test_scripts_do_not_reach_the_page(left: Left) -> None:
    """HTML, Markdown and SVG are inert, and other types are refused."""
    script = "<script>x()</script><img src=x onerror=x()>"
    exchange = left.by(
        f"echo '{script}' > a.html; echo '{script}' > b.md; echo 1 > d.js\n"
        f"echo '<svg onload=x()>{script}</svg>' > c.svg"
    )
    found = list(show.bundles(exchange, trust=False))
    for bundle in found[:3]:
        assert isinstance(bundle, dict)
        assert "image/svg+xml" not in bundle
        for html in (bundle["text/html"], bundle.get("text/markdown", "")):
            assert not [word for word in ("<script", "onerror", "onload") if word in html]
    assert isinstance(found[3], str)


def test_no_capability_of_a_cells_changes_what_the_notebook_wrote(left: Left, engine: Engine) -> None:
    """The input is memory of the container's own: with all capabilities it can be changed for that cell alone."""
    with Exchange({"x": "value"}, output=True) as exchange:
        streams = Streams(lambda _: None, lambda _: None, values=exchange.values, on_values=exchange.send)
        script = "mount -o remount,rw /in; echo changed > /in/x.txt; umount -l /in; cp /in/x.txt /out/; true"
        running.run(engine, Request("busybox", script=script, remove=True), streams)
        assert exchange.inputs[0].value == "value"
    assert left.by("cat /in/x.txt > y.txt 2>&1; true").get({"y": ""}) == {
        "y": "cat: can't open '/in/x.txt': No such file or directory\n"
    }
