"""`nbcontainer` and `python -m nbcontainer`: the program, which an interrupt ends with 130 at any moment.

Nothing is imported before `main` but what Python itself has: an interrupt of an import would show a traceback.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

_INTERRUPTED = 130  # the exit code of the shell for SIGINT


def main() -> NoReturn:
    """Run `nbcontainer.cli.main`. It has no return value: the program ends with its exit code."""
    sys.excepthook = _excepthook
    interruptible = _end_at_interrupt()
    from nbcontainer.cli import main as program

    if interruptible:
        import signal

        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on the program ends in good order
    try:
        program()
    finally:
        _end_at_interrupt()


def _end_at_interrupt() -> bool:
    """Have SIGINT end this process at once; return False if it is ignored.

    For the time in which there is nothing to put away: while modules are imported, which turn a KeyboardInterrupt into
    other errors, and while Python itself ends, which shows one as an ignored exception.
    """
    import signal

    if signal.getsignal(signal.SIGINT) != signal.default_int_handler:
        return False
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    return True


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Report what nothing has caught; an interrupt is the user's, and has nothing to report."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(_INTERRUPTED)
    sys.__excepthook__(kind, error, traceback)


if __name__ == "__main__":
    main()
