"""How far long work is, counted in many threads and told on one."""

from __future__ import annotations

import threading

import pytest

from nbcontainer.progress import State, Stopped, Tracker


def test_parts_add_up() -> None:
    """The state is the sum of all parts, whichever thread counts them, and tells of the layers that are done."""
    tracker = Tracker("pull x", total=30, layers=2)
    parts = [tracker.part() for _ in range(2)]
    threads = [threading.Thread(target=part.add, args=(10,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts[0].finish()
    state = tracker.state
    assert (state.what, state.done, state.total, state.layers_done, state.layers) == ("pull x", 20, 30, 1, 2)


def test_states_come_now_and_then_and_at_the_end() -> None:
    """Of a thousand steps few are told, and the last state says that the work is finished, with all bytes done."""
    told: list[State] = []
    with Tracker("pull x", told.append, total=1000) as tracker:
        part = tracker.part()
        for _ in range(1000):
            part.add(1)
    assert 2 <= len(told) < 100
    assert [state.finished for state in told[-2:]] == [False, True]
    assert told[-1].done == 1000


def test_states_come_on_the_thread_that_began() -> None:
    """A notebook's output belongs to the cell whose thread it comes from: no other thread tells a state."""
    threads: set[int] = set()
    tracker = Tracker("pull x", lambda _: threads.add(threading.get_ident()))
    other = threading.Thread(target=tracker.part(), args=(1,))
    other.start()
    other.join()
    assert threads == set()
    tracker.show()
    assert threads == {threading.get_ident()}


def test_work_that_is_given_up_stops_everywhere() -> None:
    """After `stop`, counting and waiting end with `Stopped`, at once."""
    tracker = Tracker("pull x")
    part = tracker.part()
    tracker.stop()
    with pytest.raises(Stopped):
        part(1)
    with pytest.raises(Stopped):
        part.check()
    with pytest.raises(Stopped):
        tracker.check()
    with pytest.raises(Stopped):
        tracker.pause(1000)


def test_a_failure_is_not_told_as_done() -> None:
    """Work that fails ends in a state with what was really done."""
    told: list[State] = []
    tracker = Tracker("pull x", told.append, total=10)
    tracker.part()(3)
    tracker.__exit__(ValueError, ValueError(), None)
    assert (told[-1].done, told[-1].finished, told[-1].failed) == (3, True, True)
