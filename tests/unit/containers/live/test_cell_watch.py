"""What ends a cell in a live container: no interpreter runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nbcontainer.containers.live.cell_watch import CellWatch

if TYPE_CHECKING:
    from nbcontainer.containers.live.messages import Message
    from nbcontainer.containers.live.process import ShellProcess


class Interpreter:
    """An interpreter that answers at once. A deadline of the cell passes when its end is read."""

    init = 0

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.channel = self
        self.watch: CellWatch | None = None
        self.ended = False

    def send(self, _: str) -> None:
        """Take a line."""

    def borrow(self) -> bool:
        return False

    def give_back(self) -> None:
        pass

    def next_message(self, _: float | None) -> Message | None:
        message = self.messages.pop(0)
        if message[0] == "done":
            assert self.watch is not None
            self.watch._deadline = 0.0
        return message

    def find_shell(self) -> int:
        return 0

    def kill(self, *_: Any) -> None:
        self.ended = True


def test_a_deadline_that_comes_with_the_end_ends_nothing_more() -> None:
    """The cell has ended: the interpreter, which is idle, is not killed for it."""
    interpreter = Interpreter(("begun", "1", "one"), ("done", "1", "0"))
    watch = interpreter.watch = CellWatch(1, "run 1", cast("ShellProcess", interpreter), None, None)
    end = watch.to_end()
    assert (end.status, end.note) == (0, "")
    assert not interpreter.ended
