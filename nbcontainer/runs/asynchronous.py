"""A run that an event loop awaits: it is supervised by a thread of its own, and its cancellation ends the container."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbcontainer.runs.calls import Call
    from nbcontainer.runs.results import Result

THREAD = "nbcontainer-run"


async def finished(call: Call, *, check: bool) -> Result:
    """Return the result of a call. Raises what `Call.result` raises.

    A cancellation ends the container, waits until it has ended, and raises `asyncio.CancelledError` then. A second
    cancellation kills it at once.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[Result] = loop.create_future()

    def work() -> None:
        result: Result | BaseException
        try:
            result = call.result(check=check)
        except BaseException as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for its tasks
            loop.call_soon_threadsafe(_settle, waiting, result)

    threading.Thread(target=work, name=THREAD, daemon=True).start()
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await _stopped(call, waiting)
        raise


async def _stopped(call: Call, waiting: asyncio.Future[Result]) -> None:
    call.stop()
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            call.stop(gently=False)
    waiting.exception()


def _settle(waiting: asyncio.Future[Result], result: Result | BaseException) -> None:
    if isinstance(result, StopIteration):  # no future can have it (PEP 479)
        error = RuntimeError("a function that gets the output raised StopIteration")
        error.__cause__ = result
        waiting.set_exception(error)
    elif isinstance(result, BaseException):
        waiting.set_exception(result)
    else:
        waiting.set_result(result)
