"""The descriptors that travel to a container with the plan of a cell: its streams, its body, and what it mounts."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.cells.request import encode
from nbcontainer.containers.cells.template import SCRIPT_FILE, Attached
from nbcontainer.containers.mounts import idmapped, writable_directories
from nbcontainer.errors import UsageError
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.supervision.feed import feed_of
from nbcontainer.store import writable

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.cow.attaching import CowVolumes
    from nbcontainer.containers.engine import Engine
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Mounts
    from nbcontainer.sandbox.supervision.feed import Feed


_INIT_DESCRIPTORS = 16
"""What init has open, or opens for a moment, beside the descriptors that travel to it. It has the cell's own limits."""


def has_host_ids(mounts: Mounts, launcher: Launcher) -> bool:
    """Return whether no volume has to be mapped: the containers' root is this user, or the volumes are the store's."""
    return all(volume.stored for volume in mounts.volumes) or launcher.idmap.root_uid == os.geteuid()


class CellFiles:
    """The descriptors of one attempt to run a request.

    `travelling` are those that go to the container, in the order by which the plan names them. `outputs` are the
    notebook's ends of the cell's output and errors. `keyboard` is input that is typed into a terminal, None for none.
    `feed` passes on input from a file of the caller, None for none: the container never has the caller's descriptor.
    `network` is that of another container, if the cell joins it: which one, and a descriptor of its namespace.
    `close_sent` closes what only the container needs, and `close` the rest. `taken` is what another attempt has read of
    the caller's own input.
    """

    def __init__(
        self,
        engine: Engine,
        launcher: Launcher,
        request: Request,
        streams: Streams,
        cow: CowVolumes | None = None,
        taken: bytes = b"",
    ) -> None:
        self.travelling: list[int] = []
        self.outputs: list[int] = []
        self.keyboard: int | None = None
        self.feed: Feed | None = None
        self.network: tuple[str, int] | None = None
        self._engine = engine
        self._launcher = launcher
        self._request = request
        self._streams = streams
        self._cow = cow
        self._taken = taken
        self._sent: list[int] = []
        self._kept: list[int] = []

    def close_sent(self) -> None:
        """Close the descriptors that only the container needs. Idempotent."""
        sent, self._sent = self._sent, []
        protocol.close(sent)

    def close(self) -> None:
        """Close all of them, when the cell has ended. Idempotent.

        The cell's ends of its output are among those that stay open until then: the one that closes an end last waits
        for a process that has locked the pipe.
        """
        self.close_sent()
        outputs, kept, self.outputs, self._kept = self.outputs, self._kept, [], []
        protocol.close((*outputs, *kept))
        if (network := self.take_network()) is not None:
            os.close(network[1])
        if self.feed is not None:
            self.feed.close()

    def take_network(self) -> tuple[str, int] | None:
        """Return `network`, whose descriptor the caller closes from now on."""
        network, self.network = self.network, None
        return network

    @property
    def taken(self) -> bytes:
        """What was read of the caller's own input, if a program may have seen none of it (`Feed`)."""
        feed = self.feed
        return self._taken if feed is None or feed.source != self._streams.stdin else bytes(feed.taken)

    def open_streams(self) -> None:
        """Open the cell's input, output and errors. Raises `OSError`, `UsageError`, `LinkRefused`."""
        for _ in range(2):
            reader, writer = self._engine.files.output_pipe()
            self.outputs.append(reader)
            self._kept.append(writer)
        writers = self._kept[:2]
        self.travelling += (self._input(), *writers)

    def open_null_streams(self) -> None:
        """Open /dev/null as the streams of a process that is only looked at. Raises `OSError`."""
        self._sent.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self.travelling += [self._sent[-1]] * SCRIPT_FILE

    def _null(self) -> int:
        self._sent.append(self._engine.files.null_input())
        return self._sent[-1]

    def _input(self) -> int:
        """Return the descriptor of the cell's standard input, its terminal's if it has one: that one is typed into."""
        request = self._request
        if request.command and request.script is not None:
            given = protocol.memory_file("stdin", encode(request.script))
        elif request.stdin is not None:
            given = request.stdin.open(self._engine.store)
        elif self._streams.stdin is not None:
            return self._fed(self._streams.stdin, self._taken)
        else:
            return self._null()
        self._kept.append(given)
        if request.options.process.terminal:
            self.keyboard = given
            return self._null()
        return self._fed(given)

    def _fed(self, given: int, taken: bytes = b"") -> int:
        """Return what the container gets for a descriptor of the caller, which stays open here."""
        self.feed = feed_of(given, taken)
        if self.feed is None:
            return given
        self._sent.append(self.feed.reader)
        return self.feed.reader

    def attach(self) -> Attached:
        """Open the body, the volumes and the shared network; return them as they travel, after the streams.

        Raises this package's errors and `OSError`.
        """
        request, network, namespace = self._request, "", None
        if (body := request.body) is not None:
            self._send(self._engine.files.memory_file(encode(body)))
        if joined := request.options.networking.joined:
            network, namespace = self._join(joined)
        attached = Attached(self._mounts(), network, namespace)
        self._check_limits()
        return attached

    def _check_limits(self) -> None:
        """Raise `UsageError` if the cell's limit on open files leaves init too few to start the program."""
        least = _INIT_DESCRIPTORS + len(self.travelling)
        for limit in self._request.options.resources.ulimits:
            if limit.name in ("nofile", "ofile") and 0 <= limit.soft < least:
                problem = f"--ulimit {limit.name}={limit.soft} is too low to start the program"
                hint = f"write {least} or more; the program itself can lower it: `ulimit -n {limit.soft}`"
                raise UsageError(problem, hint=hint)

    def _send(self, fd: int) -> None:
        self._sent.append(fd)
        self.travelling.append(fd)

    def _join(self, name: str) -> tuple[str, int | None]:
        """Add the network namespace of another container. A job in the host's network has no other one."""
        self.network = network, namespace = self._engine.network_of(name)
        if network == Network.HOST:
            return network, None
        self.travelling.append(namespace)
        return network, len(self.travelling) - 1

    def _mounts(self) -> Mounts:
        options = self._request.options
        mounts = options.mounts if self._cow is None else self._cow.begin(options.mounts)
        if not mounts.volumes:
            return mounts
        # With this capability a cell makes its read-only volumes writable (SECURITY.md, "--cap-add").
        remounts = "SYS_ADMIN" in options.privileges.capabilities
        for directory in writable_directories(mounts.volumes, all_of_them=remounts):
            writable.remember(self._engine.store, directory)
        return mounts if has_host_ids(mounts, self._launcher) else self._idmapped(mounts)

    def _idmapped(self, mounts: Mounts) -> Mounts:
        mapped = idmapped(mounts.volumes, self._launcher, len(self.travelling))
        self.travelling += mapped.trees
        self._sent += mapped.trees
        for note in mapped.notes:
            self._engine.note_once(note, self._streams.notify)
        return replace(mounts, volumes=tuple(mapped.volumes))
