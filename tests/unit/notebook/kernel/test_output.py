"""Output on its way to frontends: what becomes a message, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.notebook.kernel.output import Outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARENT = {"header": {"msg_id": "1"}}


class Frontends:
    """Remembers what is published, and what is to be called later."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.later: list[Callable[[], None]] = []

    def publish(self, kind: str, content: dict[str, Any], parent: dict[str, Any]) -> None:
        self.sent.append((kind, content, parent))

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.later.append(function)

    @property
    def streams(self) -> list[tuple[str, str]]:
        return [(content["name"], content["text"]) for kind, content, _ in self.sent if kind == "stream"]


@pytest.fixture
def frontends() -> Frontends:
    return Frontends()


@pytest.fixture
def outputs(frontends: Frontends, tmp_path: Path) -> Outputs:
    made = Outputs(frontends, 1000, lambda: tmp_path / "flood")
    made.begin(PARENT)
    return made


def test_small_writes_wait_for_each_other(outputs: Outputs, frontends: Frontends) -> None:
    """They are sent together after a while, in their order, and neighbours of one stream as one message."""
    for text in ("a", "b"):
        outputs.stdout(text.encode())
    outputs.stderr(b"e")
    outputs.stdout(b"c")
    assert frontends.sent == []
    assert len(frontends.later) == 1
    frontends.later[0]()
    assert frontends.streams == [("stdout", "ab"), ("stderr", "e"), ("stdout", "c")]
    assert all(parent == PARENT for _, _, parent in frontends.sent)


def test_all_is_sent_when_the_cell_ends(outputs: Outputs, frontends: Frontends) -> None:
    """Half a character too, as what it is."""
    outputs.stdout("é".encode()[:1])
    outputs.finish()
    assert frontends.streams == [("stdout", "\ufffd")]


def test_what_is_shown_comes_after_what_was_written(outputs: Outputs, frontends: Frontends) -> None:
    """A picture, or clearing, sends the text before it."""
    outputs.stdout(b"text")
    outputs.shown("text/html", b"<b>a</b>")
    outputs.stdout(b"more")
    outputs.cleared(True)
    assert [kind for kind, _, _ in frontends.sent] == ["stream", "display_data", "stream", "clear_output"]
    assert frontends.sent[-1][1] == {"wait": True}


def test_a_silent_cell_sends_nothing(outputs: Outputs, frontends: Frontends) -> None:
    """Neither text nor pictures; the next one does."""
    outputs.begin(PARENT, silent=True)
    outputs.stdout(b"not")
    outputs.shown("image/png", b"not")
    outputs.begin(PARENT)
    outputs.stdout(b"said")
    outputs.finish()
    assert frontends.streams == [("stdout", "said")]
    assert len(frontends.sent) == 1


def test_a_flood_is_told_and_kept(outputs: Outputs, frontends: Frontends, tmp_path: Path) -> None:
    """Past the limit it goes to a file; the next cell has a limit of its own."""
    outputs.stdout(b"x" * 100_000)
    outputs.finish()
    shown = "".join(text for _, text in frontends.streams)
    assert shown.count("x") < 20_000
    assert str(tmp_path / "flood") in shown
    assert (tmp_path / "flood").stat().st_size == 100_000
    frontends.sent.clear()
    outputs.begin(PARENT)
    outputs.stdout(b"y" * 500)
    outputs.finish()
    assert frontends.streams == [("stdout", "y" * 500)]
