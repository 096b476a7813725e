"""The controlling end of a container's terminal, for a person who answers line by line."""

from __future__ import annotations

import fcntl
import os
import termios
from dataclasses import dataclass

from nbcontainer.sandbox.prompts.waits import Terminal

_TIOCGPTPEER = 0x5441

_MOST = 1 << 16
"""Bytes of output that may come before an echo: what a terminal's buffer holds (drivers/tty/tty_buffer.c)."""


@dataclass(frozen=True)
class TerminalMode:
    """Whether the terminal echoes its input, and whether it edits lines (termios(3))."""

    echo: bool
    canonical: bool

    @property
    def secret(self) -> bool:
        """Whether a program reads a line that must not be shown."""
        return self.canonical and not self.echo


class LineTerminal:
    """Says what to type for an answer, and removes the echo of it. The caller closes the descriptor."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self._expected: list[bytes] = []
        self._held = b""
        self._passed = 0

    @property
    def mode(self) -> TerminalMode:
        """The terminal's mode now. Raises `OSError`."""
        flags = termios.tcgetattr(self.terminal)[3]
        return TerminalMode(bool(flags & termios.ECHO), bool(flags & termios.ICANON))

    def peer(self) -> Terminal:
        """Return the container's end. Raises `OSError`.

        It is opened through the controlling end (TIOCGPTPEER, Linux 4.13), not by a path of the container's.
        """
        peer = fcntl.ioctl(self.terminal, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            facts = os.fstat(peer)
        finally:
            os.close(peer)
        return Terminal(facts.st_dev, facts.st_ino)

    def keys(self, text: str) -> bytes:
        r"""Return the bytes to type for an answer, with the key Enter; an answer with ^D has no other end.

        `without_echo` removes their echo from the output. Enter is "\n" for a terminal that edits lines: one that does
        not turn "\r" into "\n" would wait for more.
        """
        mode = self.mode
        data = text.encode("utf-8", "surrogateescape")
        if "\x04" not in text:
            data += b"\n" if mode.canonical else b"\r"
        if mode.echo and (echo := _echo_of(data)):
            self._expected.append(echo)
        return data

    def without_echo(self, data: bytes) -> bytes:
        """Return the terminal's output without the echo of the lines that were typed.

        An echo comes before all that the program writes in answer, but output from before, and the echo of an earlier
        line, may be read after a line was typed. What has not come after `_MOST` bytes never will.
        """
        data, self._held = self._held + data, b""
        shown = []
        while found := min((echo for echo in self._expected if echo in data), key=data.find, default=b""):
            before, _, data = data.partition(found)
            shown.append(before)
            del self._expected[: self._expected.index(found) + 1]
            self._passed = 0
        if self._expected:
            first = self._expected[0]
            begun = next((n for n in range(len(first) - 1, 0, -1) if data.endswith(first[:n])), 0)
            data, self._held = data[: len(data) - begun], data[len(data) - begun :]
            self._passed += len(data)
            if self._passed > _MOST:
                data += self.rest()
        return b"".join((*shown, data))

    def rest(self) -> bytes:
        """Return output that was held because it looked like the beginning of an echo."""
        held, self._held, self._expected, self._passed = self._held, b"", [], 0
        return held


def _echo_of(data: bytes) -> bytes:
    r"""Return what the kernel shows of typed bytes: "\r\n" for Enter, nothing for ^D, ^X for others (ECHOCTL)."""
    shown = bytearray()
    for byte in data:
        if byte in (0x0A, 0x0D):
            shown += b"\r\n"
        elif byte == 0x7F or (byte < 0x20 and byte != 0x09):
            shown += b"" if byte == 0x04 else bytes((0x5E, byte ^ 0x40))
        else:
            shown.append(byte)
    return bytes(shown)
