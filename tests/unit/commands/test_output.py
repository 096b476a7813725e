"""A cell's output on its way to the page: whole characters, and floods held back."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from nbcontainer.commands.output import MESSAGE_LIMIT, OUTPUT_LIMIT, FloodGate, TextSink

TEXT = "aé€😀𝄞z\r\n"


class Stream(io.StringIO):
    """A stream that remembers each write, and counts flushes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.flushes = 0

    def write(self, text: str, /) -> int:
        self.writes.append(text)
        return super().write(text)

    def flush(self) -> None:
        self.flushes += 1


@pytest.mark.parametrize("cut", range(len(TEXT.encode()) + 1))
def test_a_character_may_come_in_two_parts(cut: int) -> None:
    """Wherever the bytes are cut in two, the text arrives whole, and no half of a character is shown."""
    data, stream = TEXT.encode(), Stream()
    sink = TextSink(stream)
    sink(data[:cut])
    assert TEXT.startswith(stream.getvalue())
    sink(data[cut:])
    sink.finish()
    assert stream.getvalue() == TEXT


def test_a_character_may_come_byte_by_byte() -> None:
    """Bytes that come one at a time make the same text."""
    stream = Stream()
    sink = TextSink(stream)
    for byte in TEXT.encode():
        sink(bytes([byte]))
    assert stream.getvalue() == TEXT


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"\xc3(", "\ufffd("),
        (b"\xe2\x82", "\ufffd"),
        (b"\xed\xa0\x80x", "\ufffd\ufffd\ufffdx"),
        (b"\x00\x1b[31mred", "\x00\x1b[31mred"),
    ],
)
def test_what_is_no_text_is_marked(data: bytes, text: str) -> None:
    """Bytes that are no UTF-8, and a character that never ends, become U+FFFD; nothing after them is lost."""
    stream = Stream()
    sink = TextSink(stream)
    sink(data)
    sink.finish()
    assert stream.getvalue() == text


def test_output_is_shown_at_once() -> None:
    """Each write is followed by a flush, unless the stream is to flush itself; nothing is written for nothing."""
    stream, lazy = Stream(), Stream()
    for sink in (TextSink(stream), TextSink(lazy, flush=False)):
        sink(b"a")
        sink(b"\xc3")
        sink(b"\xa9")
        sink.finish()
    assert (stream.writes, stream.flushes) == (["a", "é"], 2)
    assert (lazy.writes, lazy.flushes) == (["a", "é"], 0)


def gate_to(path: Path, limit: int) -> tuple[FloodGate, bytearray]:
    return FloodGate(limit, lambda: path), bytearray()


def test_what_is_within_the_limit_passes(tmp_path: Path) -> None:
    """Output up to the limit is shown as it comes, and no file is made."""
    gate, shown = gate_to(tmp_path / "whole", 6)
    take = gate.through(shown.extend)
    take(b"abc")
    assert shown == b"abc"
    take(b"def")
    gate.finish(shown.extend)
    assert shown == b"abcdef"
    assert gate.path is None
    assert not list(tmp_path.iterdir())


def test_a_flood_is_cut_in_the_middle(tmp_path: Path) -> None:
    """Past the limit the page has the beginning, the last lines and where the whole is; the file has every byte."""
    gate, shown = gate_to(tmp_path / "whole", 100)
    take = gate.through(shown.extend)
    lines = [b"line %d\n" % number for number in range(5000)]
    for line in lines:
        take(line)
    gate.finish(shown.extend)
    whole = b"".join(lines)
    assert (tmp_path / "whole").read_bytes() == whole
    beginning, hidden, end, where = re.split(" …\n|\n… ", shown.decode())
    assert beginning == whole[:100].decode()
    assert end.startswith("line ")
    assert whole.decode().endswith(end)
    assert hidden == f"{len(whole) - 100 - len(end)} bytes of output are not shown"
    assert where == f"all {len(whole)} bytes of output are in {tmp_path / 'whole'} until the notebook ends\n"


def test_a_little_too_much_is_shown_whole(tmp_path: Path) -> None:
    """Where the end begins within the limit, nothing is left out and nothing is shown twice."""
    gate, shown = gate_to(tmp_path / "whole", 10)
    take = gate.through(shown.extend)
    take(b"0123456789abcdef")
    gate.finish(shown.extend)
    assert bytes(shown).startswith(b"0123456789abcdef\n")
    assert "not shown" not in shown.decode()
    assert (tmp_path / "whole").read_bytes() == b"0123456789abcdef"


def test_two_streams_share_one_limit(tmp_path: Path) -> None:
    """Both streams count, each goes to its own sink up to the limit, and the file has them as they came."""
    gate, out = gate_to(tmp_path / "whole", 6)
    err = bytearray()
    to_out, to_err = gate.through(out.extend), gate.through(err.extend)
    to_out(b"aaa")
    to_err(b"bbb")
    to_out(b"ccc")
    to_err(b"ddd")
    assert (bytes(out), bytes(err)) == (b"aaa", b"bbb")
    gate.finish(out.extend)
    assert (tmp_path / "whole").read_bytes() == b"aaabbbcccddd"
    assert b"cccddd" in out


def test_a_flood_takes_no_memory(tmp_path: Path) -> None:
    """Once it is in the file, neither the beginning nor the middle is kept in memory."""
    gate, shown = gate_to(tmp_path / "whole", 1000)
    take = gate.through(shown.extend)
    for _ in range(100):
        take(bytes(10_000))
    assert not gate._kept
    assert len(gate._tail) == FloodGate.TAIL
    assert len(shown) == 1000
    gate.finish(shown.extend)


def test_no_limit_shows_nothing_but_the_end(tmp_path: Path) -> None:
    """A limit of nothing is still a limit."""
    gate, shown = gate_to(tmp_path / "whole", 0)
    gate.through(shown.extend)(b"abc\n")
    gate.finish(shown.extend)
    assert bytes(shown).startswith(b"abc\n")
    assert (tmp_path / "whole").read_bytes() == b"abc\n"


@pytest.mark.parametrize("limit", range(1, 9))
def test_a_flood_is_cut_between_characters(tmp_path: Path, limit: int) -> None:
    """Neither the last character before the gap nor the first after it is broken."""
    gate, shown = gate_to(tmp_path / "whole", limit)
    take = gate.through(shown.extend)
    take("ab€😀".encode() + "😀".encode() * 9999)
    gate.finish(shown.extend)
    text = shown.decode()
    assert text.startswith("ab€😀"[: {1: 1, 2: 2, 3: 2, 4: 2}.get(limit, 3)] + "\n")
    assert "\n😀" in text


def test_a_file_that_cannot_be_made_ends_no_cell(tmp_path: Path) -> None:
    """Where the whole output cannot be kept, the page says why, and has the beginning and the end all the same."""
    gate, shown = gate_to(tmp_path / "no" / "whole", 4)
    take = gate.through(shown.extend)
    for _ in range(5000):
        take(b"abc\n")
    gate.finish(shown.extend)
    assert shown.startswith(b"abc\n")
    assert shown.endswith("abc\n\n… all 20000 bytes of output could not be kept: No such file or directory\n".encode())


def test_a_flood_follows_no_link(tmp_path: Path) -> None:
    """The file for a flood is a new one: what has its name already is not written to."""
    (tmp_path / "other").write_text("other")
    (tmp_path / "whole").symlink_to("other")
    gate, shown = gate_to(tmp_path / "whole", 4)
    gate.through(shown.extend)(b"abc\nabc\n")
    gate.finish(shown.extend)
    assert "could not be kept: File exists" in shown.decode()
    assert (tmp_path / "other").read_text() == "other"


def test_a_full_disk_ends_no_cell(tmp_path: Path) -> None:
    """A disk that fills up in the middle of a flood is said of the output, and nothing is raised."""
    gate, shown = gate_to(tmp_path / "whole", 4)
    take = gate.through(shown.extend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
        for _ in range(5000):
            take(b"abc\n")
        gate.finish(shown.extend)
    assert "could not be kept: No space left on device" in shown.decode()


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        (b"x", OUTPUT_LIMIT),
        (b"y\n", OUTPUT_LIMIT),
        (b"\x00", MESSAGE_LIMIT // 6),
        (b"\xff", MESSAGE_LIMIT // 3),
        ("😀".encode(), OUTPUT_LIMIT),
    ],
)
@pytest.mark.parametrize("piece", [1 << 16, 1 << 30])
def test_messages_stay_below_the_limit_of_jupyter(tmp_path: Path, unit: bytes, shown: int, piece: int) -> None:
    """Whatever the bytes are, the output is less than the 3 MB of messages after which Jupyter Server drops all."""
    gate = FloodGate(OUTPUT_LIMIT, lambda: tmp_path / "whole")
    stream = Stream()
    sink = TextSink(stream)
    take = gate.through(sink)
    whole = unit * (4_000_000 // len(unit))
    for start in range(0, len(whole), piece):
        take(whole[start : start + piece])
    beginning = len(stream.getvalue().encode("utf-8", "surrogatepass"))
    gate.finish(sink)
    sink.finish()
    assert len(json.dumps(stream.getvalue(), ensure_ascii=False).encode()) < 2_700_000
    assert beginning > 0.9 * shown
    assert (tmp_path / "whole").read_bytes() == whole


def test_nothing_more_passes_after_the_cut(tmp_path: Path) -> None:
    """After control characters were cut, letters that would fit are not shown: they would seem to follow."""
    gate, shown = gate_to(tmp_path / "whole", OUTPUT_LIMIT)
    take = gate.through(shown.extend)
    take(bytes(900_000))
    before = len(shown)
    take(b"letters")
    assert len(shown) == before < 900_000
    gate.finish(shown.extend)
