"""The history of this user's kernels."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from functools import partial
from typing import TYPE_CHECKING

from nbcontainer.containers.background import BackgroundQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Entry = tuple[int, int, str]
"""Session, line and cell, as in a `history_reply`."""

_TABLE = "CREATE TABLE IF NOT EXISTS cells (session INTEGER, line INTEGER, source TEXT, PRIMARY KEY (session, line))"
_PATIENCE = 5.0  # seconds to wait for another kernel's write


class History:
    """The cells of all kernels, in the SQLite file at `path` (host), which only its user reads.

    A thread of its own writes it: SQLite waits for the disk after each cell, and the cell does not. A reader gets all
    cells that were added before. If it cannot be written, cells run without a history. The owner calls `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = 0
        self._writer = BackgroundQueue()

    def close(self) -> None:
        """Write what was added, and end the thread. Later cells are not added. Idempotent."""
        self._writer.close()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            self._path.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(self._path, timeout=_PATIENCE)) as database, database:
            database.execute(_TABLE)
            yield database

    def add(self, line: int, source: str) -> None:
        """Add a cell of this session, which begins with its first cell. It does not wait for the disk."""
        self._writer.add(partial(self._write, line, source))

    def _write(self, line: int, source: str) -> None:
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            if not self._session:
                database.execute("BEGIN IMMEDIATE")
                newest = database.execute("SELECT max(session) FROM cells").fetchone()[0]
                self._session = (newest or 0) + 1
            database.execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", (self._session, line, source))

    def tail(self, count: int) -> list[Entry]:
        """Return the last `count` cells, the oldest first."""
        return self._select("", (), count)

    def range(self, session: int, start: int, stop: int | None) -> list[Entry]:
        """Return the cells of a session from line `start` up to `stop`. 0 is this session, -1 the one before."""
        self._writer.wait()
        if session <= 0:
            session += self._session
        condition, arguments = "session = ? AND line >= ?", [session, start]
        if stop is not None:
            condition += " AND line < ?"
            arguments.append(stop)
        return self._select(condition, tuple(arguments), -1)

    def search(self, pattern: str, count: int | None = None, *, unique: bool = False) -> list[Entry]:
        """Return the last cells that match a pattern of `*` and `?`; with `unique`, only the last of equal texts."""
        pattern = re.sub(r"\[", "[[]", pattern)
        return self._select("source GLOB ?", (pattern,), -1 if count is None else count, unique=unique)

    def _select(
        self, condition: str, arguments: tuple[object, ...], count: int, *, unique: bool = False
    ) -> list[Entry]:
        where = f"WHERE {condition}" if condition else ""
        what = "max(session * 4294967296 + line), session, line, source" if unique else "0, session, line, source"
        group = "GROUP BY source" if unique else ""
        query = f"SELECT {what} FROM cells {where} {group} ORDER BY session DESC, line DESC LIMIT ?"
        self._writer.wait()
        try:
            with self._open() as database:
                rows = database.execute(query, (*arguments, count)).fetchall()
        except (sqlite3.Error, OSError):
            return []
        return [(session, line, source) for _, session, line, source in reversed(rows)]
