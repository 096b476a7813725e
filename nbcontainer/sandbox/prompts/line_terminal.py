"""The controlling end of a container's terminal, for a person who answers line by line."""

from __future__ import annotations

import fcntl
import os
import termios
from dataclasses import dataclass

from nbcontainer.sandbox.prompts.waits import Terminal

_TIOCGPTPEER = 0x5441


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
        self._expected = b""
        self._held = b""

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
        self._expected = _echo_of(data) if mode.echo else b""
        return data

    def without_echo(self, data: bytes) -> bytes:
        """Return the terminal's output without the echo of the line that was typed.

        The echo comes before all that the program writes in answer, so only the output that comes next is searched.
        """
        if not self._expected:
            return data
        data, self._held = self._held + data, b""
        before, found, after = data.partition(self._expected)
        if found:
            self._expected = b""
            return before + after
        begun = next((n for n in range(len(self._expected) - 1, 0, -1) if data.endswith(self._expected[:n])), 0)
        if not begun:
            self._expected = b""
            return data
        self._held = data[-begun:]
        return data[:-begun]

    def rest(self) -> bytes:
        """Return output that was held because it looked like the beginning of an echo."""
        held, self._held, self._expected = self._held, b"", b""
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
