"""The events of `stream` and of `logs(follow=True)`: their text, and the result that they lead to."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer import CellFailed, ContainerError, OutputEvent, SetupFailed
from nbcontainer.runs.output_events import EventDecoder, Stream

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine

PIECES = "printf 'a\\303'; until [ -e /go ]; do sleep 0.01; done; printf '\\251\\n\\342\\202'; printf '\\303' >&2"
"""Writes é in two pieces, the second one when `/go` is there, and incomplete characters at the end."""


def test_a_character_in_pieces_is_in_the_text_of_its_last_piece() -> None:
    """Each stream has its own pieces, and what is incomplete at the end is replaced there."""
    decoder = EventDecoder()
    pieces = [
        (Stream.STDOUT, b"\xe2"),
        (Stream.STDERR, b"\xc3"),
        (Stream.STDOUT, b"\x82\xac\xc3"),
        (Stream.STDERR, b""),
    ]
    events = [decoder.event(*piece) for piece in pieces]
    assert [event.text for event in events] == ["", "", "€", ""]
    assert [(*event, event.text) for event in decoder.rest()] == [("stdout", b"", "\ufffd"), ("stderr", b"", "\ufffd")]
    assert list(decoder.rest()) == []


def test_an_event_is_a_pair_that_travels() -> None:
    """It unpacks into the stream and the bytes, and keeps its text when it is pickled or copied."""
    event = EventDecoder().event(Stream.STDOUT, b"a\xc3")
    for found in (event, pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)):
        stream, data = found
        assert (stream, data, found.text, found == event) == ("stdout", b"a\xc3", "a", True)
    assert OutputEvent(Stream.STDERR, b"a\xff").text == "a\ufffd"
    assert event._replace(data=b"b").text == "b"


def test_the_texts_of_events_are_the_text_of_the_output(engine: Engine) -> None:
    """Valid UTF-8 is never replaced, in a stream and in a log that is followed; bytes come as they were written."""
    with nbcontainer.create("busybox", engine=engine).start(script=PIECES) as box:
        events = box.logs(follow=True)
        first = next(events)
        assert (first.data, first.text) == (b"a\xc3", "a")
        with contextlib.suppress(ContainerError):  # it may end before the copy has reported
            box.put(b"", "/go")
        rest = [first, *events]
        for stream, data, text in (("stdout", b"a\xc3\xa9\n\xe2\x82", "aé\n\ufffd"), ("stderr", b"\xc3", "\ufffd")):
            found = [event for event in rest if event.stream == stream]
            assert b"".join(event.data for event in found) == data
            assert "".join(event.text for event in found) == text
        piped = nbcontainer.stream("busybox", script="printf '\\303'; sleep 0.1; printf '\\251\\342'", engine=engine)
        assert "".join(event.text for event in piped) == "é\ufffd"


def test_a_failed_run_has_its_result(engine: Engine) -> None:
    """After `CellFailed`, `result` is that of the failed run, and stays it when the stream is closed."""
    with nbcontainer.stream("busybox", ["sh", "-c", "echo out; exit 3"], engine=engine) as events:
        assert next(events).text == "out\n"
        with pytest.raises(CellFailed, match="exit code 3"):
            next(events)
        assert events.result.exit_code == 3
    assert (events.result.exit_code, list(events)) == (3, [])


def test_a_run_that_could_not_start_has_its_error_as_the_result(engine: Engine) -> None:
    """`result` raises what the iterator raised."""
    events = nbcontainer.stream("busybox", ["nope"], engine=engine)
    with pytest.raises(SetupFailed, match="cannot run nope"):
        next(events)
    assert next(events, None) is None
    for _ in range(2):
        with pytest.raises(SetupFailed, match="cannot run nope"):
            _ = events.result


def test_a_stream_that_was_closed_early_has_no_result(engine: Engine) -> None:
    """The error says so, and differs from that of a run that lasts."""
    with nbcontainer.stream("busybox", script="echo up; sleep 1000", engine=engine) as events:
        next(events)
        with pytest.raises(ContainerError, match=r"the run has no result yet; read its output to the end first"):
            _ = events.result
    for _ in range(2):
        with pytest.raises(ContainerError, match="the stream was closed before its run ended; read its output to the"):
            _ = events.result
        events.close()
