"""How much of our own Python a warm cell takes before its plan is sent, and how many functions its request passes.

    python -m tests.benchmarks.request [--rounds 300]

The clocks run from IPython's call of the magic until the plan has been written to the socket of the container's init,
the compiled one or, with `NBCONTAINER_HELPER=0`, the interpreted one:
`perf_counter` for the time that passes, `thread_time` for the processor's, which other programs do not lengthen. What a
hop is, `tests.hops` says.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from nbcontainer.notebook.magics import ContainerMagics
from nbcontainer.sandbox.handle import ContainerHandle
from nbcontainer.sandbox.helper.helper_handle import HelperHandle
from tests.benchmarks.measuring import machine
from tests.benchmarks.prepared import notebook
from tests.hops import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine


def main() -> None:
    """Prints the quartiles of the times, and the hops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--list", action="store_true", help="list the hops")
    options = parser.parse_args()
    with notebook() as (place, engine, shell):
        print(machine())
        for words in ("busybox", f"busybox -v {place}:/data"):
            cell = f"%%container {words}\ntrue"
            print(cell.splitlines()[0])
            for clock in (time.perf_counter, time.thread_time):
                times = _times(engine, functools.partial(_run, shell, cell), options.rounds, clock)
                quarters = ", ".join(f"{1e3 * value:.3f} ms" for value in statistics.quantiles(times, n=4))
                print(f"    {clock.__name__}: {quarters}")
            seen = watch(functools.partial(_run, shell, cell))
            files = {file for file, _ in seen.functions}
            print(f"    {len(seen.hops)} hops; {len(seen.functions)} functions of {len(files)} modules see the request")
            if options.list:
                print("\n".join(f"        {hop.giver} -> {hop.taker}: {hop.function}" for hop in seen.hops))


def _run(shell: Any, cell: str) -> None:
    shell.run_cell(cell).raise_error()


def _times(engine: Engine, cell: Callable[[], object], rounds: int, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds by `clock` from the call of the magic until its plan is sent, for each of some cells."""
    began, sent = [0.0], [0.0]
    magic: Any = ContainerMagics.container
    begins: dict[Any, Any] = {kind: kind.begin for kind in (ContainerHandle, HelperHandle)}

    def container(self: ContainerMagics, line: str, body: str | None = None) -> Any:
        began[0], sent[0] = clock(), 0.0
        return magic(self, line, body)

    def timed(handle: Any, *arguments: Any, **keywords: Any) -> None:
        begins[type(handle)](handle, *arguments, **keywords)
        sent[0] = clock()

    shell: Any = InteractiveShell.instance()
    registered = shell.magics_manager.magics["cell"]["container"]
    magics = registered.__self__
    shell.magics_manager.magics["cell"]["container"] = lambda line, body: container(magics, line, body)
    for kind in begins:
        kind.begin = timed
    try:
        for _ in range(rounds):
            cell()
            assert sent[0]
            yield sent[0] - began[0]
            engine.background.wait()
            time.sleep(0.01)
    finally:
        for kind, begin in begins.items():
            kind.begin = begin
        shell.magics_manager.magics["cell"]["container"] = registered


if __name__ == "__main__":
    main()
