"""Connecting the values of a run with its streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.sandbox.plan import reaches_others

if TYPE_CHECKING:
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.values.exchange import Exchange


def connect(exchange: Exchange, options: RunOptions, streams: Streams) -> None:
    """Let a run with these options have the values of an exchange.

    Raises `UsageError` if one of its mounts is in their place, or below it.
    """
    mounts = options.mounts
    exchange.check(mounts.targets)
    exchange.shared = bool(options.here) or reaches_others(mounts, options.networking)
    streams.values, streams.on_values = exchange.values, exchange.send
    streams.values_digest, streams.on_output = exchange.digest, exchange.replay
