"""`-m`, `--cpus`, `--pids-limit`, `--ulimit` and `--shm-size`: from the words to checked values."""

from __future__ import annotations

import resource

from nbcontainer.commands.grammar import Option
from nbcontainer.commands.options.volumes import size_in_bytes
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.cgroups.group import UNLIMITED, GroupLimits
from nbcontainer.sandbox.defaults import Limit

LIMIT_OPTIONS = (
    Option(("-m", "--memory"), "SIZE", "memory of all its processes, as in 512m; at it, the whole run is ended"),
    Option(("--memory-swap",), "SIZE", "memory and swap together, -1 for all swap; without it, -m allows none"),
    Option(("--cpus",), "NUMBER", "processors, as in 1.5"),
    Option(("--pids-limit",), "NUMBER", "processes at a time, -1 for no limit"),
    Option(("--ulimit",), "NAME=SOFT[:HARD]", "a limit of each process, as in nofile=4096"),
    Option(("--shm-size",), "SIZE", "what /dev/shm holds, 64m without it"),
    Option(("--storage",), "SIZE", "what it may write but to volumes, which is in memory until it has ended"),
)

_LEAST_MEMORY = 6 << 20  # as Docker has it; a shell and init have to start
_LEAST_STORAGE = 1 << 20  # overlay's own directories, and what is made on the way to the program
_NAMES = {name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_")}


def group_limits(memory: str = "", swap: str = "", cpus: str = "", pids: str = "") -> GroupLimits:
    """What is asked for all processes together, by the options' words, empty for none. Raises `UsageError`."""
    size = size_in_bytes(memory) if memory else None
    if size is not None and size < _LEAST_MEMORY:
        raise UsageError(f"-m {memory} is too little to start in", hint="give it 6m or more")
    return GroupLimits(size, _swap(swap, size), _cpus(cpus), _pids(pids))


def _swap(text: str, memory: int | None) -> int | None:
    if not text:
        return None
    if memory is None:
        raise UsageError("--memory-swap is memory and swap together", hint="give -m too")
    if text == "-1":
        return UNLIMITED
    if (both := size_in_bytes(text)) < memory:
        raise UsageError(f"--memory-swap {text} is less than -m", hint="it is memory and swap together")
    return both - memory


def _cpus(text: str) -> float | None:
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.01 <= found <= 10_000:  # a quota below 1 ms is refused (kernel/sched/core.c)
        raise UsageError(f"--cpus {text} is no number of processors", hint="write a number of 0.01 or more, as in 1.5")
    return found


def _pids(text: str) -> int | None:
    if not text:
        return None
    if text in ("-1", "0", "unlimited"):
        return UNLIMITED
    if not text.isdecimal() or len(text) > 7:
        raise UsageError(f"--pids-limit {text} is no number of processes", hint="write a number, or -1 for no limit")
    return int(text)


def parse_ulimit(text: str) -> Limit:
    """`NAME=SOFT[:HARD]`, the names being those of setrlimit(2) without RLIMIT_. Raises `UsageError`."""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    if not equals or name not in _NAMES:
        hint = f"write --ulimit NAME=SOFT[:HARD], where NAME is one of {', '.join(sorted(_NAMES))}"
        raise UsageError(f"--ulimit {text} is no limit", hint=hint)
    limit = Limit(name, _value(text, soft), _value(text, hard if colon else soft))
    if _more(limit.soft, limit.hard):
        raise UsageError(f"--ulimit {text} has more for the soft limit than for the hard one", hint="swap them")
    most = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    if _more(limit.hard, most):
        hint = "start the notebook with more: ulimit -H, or limits.conf(5)"
        raise UsageError(f"--ulimit {text} is more than this notebook's own {most}", hint=hint)
    return limit


def _value(text: str, number: str) -> int:
    if number in ("-1", "unlimited"):
        return resource.RLIM_INFINITY
    if not number.isdecimal() or len(number) > 18:
        raise UsageError(f"--ulimit {text} has no number", hint="write --ulimit NAME=SOFT[:HARD], or unlimited")
    return int(number)


def _more(one: int, other: int) -> bool:
    if other == resource.RLIM_INFINITY:
        return False
    return one == resource.RLIM_INFINITY or one > other


def storage(text: str) -> int | None:
    """Bytes that a run may write, None where nobody asked. Raises `UsageError`."""
    if not text:
        return None
    size = size_in_bytes(text)
    if size < _LEAST_STORAGE:
        raise UsageError(f"--storage {text} is too little to start in", hint="give it 1m or more")
    return size


def shm_size(text: str) -> int | None:
    """Bytes of /dev/shm, None where nobody asked. Raises `UsageError`."""
    if not text:
        return None
    size = size_in_bytes(text)
    if size == 0:  # tmpfs(5) takes it for no limit at all
        raise UsageError("--shm-size 0 is no memory", hint="write a size, as in 256m")
    return size
