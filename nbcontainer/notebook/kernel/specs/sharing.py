"""What the container of a kernel shares with the host, as lines for who installs the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import request_of
from nbcontainer.images.builtin.host_variables import network_variables
from nbcontainer.notebook.kernel.specs.freeze import RUN_WORDS
from nbcontainer.notebook.kernel.specs.kernelspec import Notebooks
from nbcontainer.sandbox.networking import Network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbcontainer.sandbox.spec import Mounts
    from nbcontainer.store.layout import Store

_DIRECTORY = {
    Notebooks.RW: "read and write (--notebooks rw); change it with --notebooks ro or none",
    Notebooks.RO: "read-only (--notebooks ro); change it with --notebooks rw or none",
    Notebooks.NONE: "not shown (--notebooks none); change it with --notebooks ro or rw",
}

_NETWORK = {
    Network.NONE: "none; change it with --network private",
    Network.PRIVATE: "other machines, not the host's loopback (--network private); change it with --network none",
    Network.HOST: "the host's (--network host); change it with --network private or none",
}


def shared(run: Sequence[str], notebooks: Notebooks, store: Store) -> Iterator[str]:
    """Yield what is shared, one thing a line, and how to change it. `run` are the arguments of the container's run."""
    words = parse(RUN_WORDS, run)
    options = request_of(words).options
    network = Network(options.networking.network)
    yield f"  the notebook's directory: {_DIRECTORY[notebooks]}"
    yield f"  network: {_NETWORK[network]}"
    for port in options.networking.ports:
        yield f"  {port.address}:{port.host}/{port.protocol} of the host: port {port.container} of the container"
    if names := _passed(words.all("env"), network, store):
        yield f"  passed on: {', '.join(names)} of the notebook's environment; change one with -e NAME=VALUE"
    yield from _mounted(options.mounts)


def _passed(given: Sequence[str], network: Network, store: Store) -> list[str]:
    """Return the names of variables that the kernel gets from its notebook, if that has them.

    They are those of `-e NAME`, and in a private network those for proxies and certificates that no `-e` sets.
    """
    names = {word for word in given if "=" not in word}
    if network == Network.PRIVATE:
        found = network_variables(store.path)
        own = {name for name in found.bundles if name not in found.hidden} | found.proxies.keys()
        names |= own - {word.partition("=")[0] for word in given}
    return sorted(names)


def _mounted(mounts: Mounts) -> Iterator[str]:
    for volume in mounts.volumes:
        access = "read-only" if volume.read_only else "copy-on-write" if volume.cow else "read and write"
        yield f"  {volume.source}: {access}, at {volume.target}"
    for named in mounts.named:
        if named.name:
            name = f"cache {named.cache}" if named.cache else f"volume {named.name}"
            yield f"  {name}: {'read-only' if named.read_only else 'read and write'}, at {named.target}"
