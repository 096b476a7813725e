"""`-m`, `--cpus`, `--pids-limit`, `--ulimit`, `--shm-size`, `--storage`, `--timeout`: from text to checked values."""

from __future__ import annotations

import re
import resource

from nbcontainer.commands.options.volumes import size_in_bytes
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.cgroups.group import UNLIMITED, GroupLimits
from nbcontainer.sandbox.defaults import Limit

_LEAST_MEMORY = 6 << 20  # Docker's minimum; a shell and init have to start
_LEAST_STORAGE = 1 << 20  # overlay's own directories, and what is made on the way to the program
_LEAST_PIDS = 2  # init, and the program
_NAMES = {name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_")}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600}
_MOST_SECONDS = 1e9  # thirty years: the kernel and Python take no times without end


def group_limits(
    memory: int | None = None,
    memory_swap: int | None = None,
    cpus: float | None = None,
    pids_limit: int | None = None,
) -> GroupLimits:
    """Return the limits of all processes together. `memory_swap` is memory and swap, as Docker counts it, in bytes.

    Raises `UsageError`.
    """
    return GroupLimits(memory, _swap(memory_swap, memory), cpus, pids_limit)


def _swap(both: int | None, memory: int | None) -> int | None:
    if both is None:
        return None
    if memory is None:
        raise UsageError("--memory-swap is the sum of memory and swap", hint="add -m")
    if both == UNLIMITED:
        return UNLIMITED
    if both < memory:
        raise UsageError(f"--memory-swap {both} is less than -m {memory}", hint="it is the sum of memory and swap")
    return both - memory


def parse_memory(text: str) -> int | None:
    """Return bytes of memory, None for an empty text. Raises `UsageError`."""
    if not text:
        return None
    if (size := size_in_bytes(text)) < _LEAST_MEMORY:
        raise UsageError(f"-m {text} is too small to start a container", hint="write 6m or more")
    return size


def parse_memory_swap(text: str) -> int | None:
    """Return bytes of memory and swap, UNLIMITED for `-1`, None for an empty text. Raises `UsageError`."""
    if not text:
        return None
    return UNLIMITED if text == "-1" else size_in_bytes(text)


def parse_cpus(text: str) -> float | None:
    """Return a number of processors, None for an empty text. Raises `UsageError`."""
    if not text:
        return None
    try:
        return cpus(_number(text))
    except ValueError:
        raise _invalid_cpus(text) from None


def _number(text: str) -> float:
    """Return a decimal number. Raises `ValueError` for what else `float` takes: 1_0, digits of other scripts, nan."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


def cpus(number: float) -> float:
    """Return a number of processors that the kernel accepts. Raises `UsageError`."""
    if not 0.01 <= number <= 10_000:  # a quota below 1 ms is refused (kernel/sched/core.c)
        raise _invalid_cpus(f"{number:g}")
    return float(number)


def _invalid_cpus(text: str) -> UsageError:
    return UsageError(f"invalid number of processors '{text}' for --cpus", hint="write 0.01 or more, as in 1.5")


def parse_pids(text: str) -> int | None:
    """Return a number of processes, UNLIMITED for `-1`, `0` and `unlimited`, None for an empty text.

    Raises `UsageError`.
    """
    if not text:
        return None
    if text in ("-1", "0", "unlimited"):
        return UNLIMITED
    if not (text.isascii() and text.isdecimal()) or len(text) > 7:
        hint = "write a number, or -1 for no limit"
        raise UsageError(f"invalid number of processes '{text}' for --pids-limit", hint=hint)
    if int(text) < _LEAST_PIDS:
        raise UsageError(f"--pids-limit {text} is too small to start a container", hint=f"write {_LEAST_PIDS} or more")
    return int(text)


def pids(number: float) -> int | None:
    """Return a number of processes as `parse_pids` does. Raises `UsageError`."""
    return parse_pids(str(number))


def parse_seconds(text: str) -> float | None:
    """Return `90`, `1.5s`, `2m` or `1h` in seconds, None for an empty text. Raises `UsageError`."""
    if not text:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = _number(number) * _UNITS[unit]
    except ValueError:
        found = 0.0
    return _checked(found, text)


def seconds(number: float) -> float:
    """Return a time limit in seconds. Raises `UsageError` if it is not above 0, or above `_MOST_SECONDS`."""
    return _checked(float(number), f"{number:g}")


def _checked(number: float, text: str) -> float:
    if 0 < number <= _MOST_SECONDS:
        return number
    too_long = _MOST_SECONDS < number < float("inf")
    hint = f"write {_MOST_SECONDS:.0f} or less, or leave it out" if too_long else "write seconds, or 90s, 5m, 1h"
    raise UsageError(f"invalid time limit '{text}' for --timeout", hint=hint)


def parse_ulimit(text: str) -> Limit:
    """Return the limit `NAME=SOFT[:HARD]`; the names are those of setrlimit(2) without RLIMIT_. Raises `UsageError`."""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    if not equals or name not in _NAMES:
        hint = f"write --ulimit NAME=SOFT[:HARD], where NAME is one of {', '.join(sorted(_NAMES))}"
        raise UsageError(f"invalid limit '{text}' for --ulimit", hint=hint)
    limit = Limit(name, _value(text, soft), _value(text, hard if colon else soft))
    if _more(limit.soft, limit.hard):
        raise UsageError(f"--ulimit {text}: the soft limit is above the hard limit", hint="swap them")
    most = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    if _more(limit.hard, most):
        hint = "start the notebook with a higher one: `ulimit -H`, or limits.conf(5)"
        raise UsageError(f"--ulimit {text} is above this notebook's own limit of {most}", hint=hint)
    return limit


def _value(text: str, number: str) -> int:
    if number in ("-1", "unlimited"):
        return resource.RLIM_INFINITY
    if not (number.isascii() and number.isdecimal()) or len(number) > 18:
        raise UsageError(f"invalid number in --ulimit {text}", hint="write --ulimit NAME=SOFT[:HARD], or unlimited")
    return int(number)


def _more(one: int, other: int) -> bool:
    if other == resource.RLIM_INFINITY:
        return False
    return one == resource.RLIM_INFINITY or one > other


def storage(text: str) -> int | None:
    """Return the bytes that a run may write, None for an empty text. Raises `UsageError`."""
    if not text:
        return None
    size = size_in_bytes(text)
    if size < _LEAST_STORAGE:
        raise UsageError(f"--storage {text} is too small to start a container", hint="write 1m or more")
    return size


def shm_size(text: str) -> int | None:
    """Return the bytes of /dev/shm, None for an empty text. Raises `UsageError`."""
    if not text:
        return None
    size = size_in_bytes(text)
    if size == 0:  # tmpfs(5) takes 0 for no limit
        raise UsageError("--shm-size must be greater than 0", hint="write a size, as in 256m")
    return size
