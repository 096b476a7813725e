"""The defaults of a container: its capabilities and the limits of each process."""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
"""Podman's default set: Docker's without MKNOD, NET_RAW and AUDIT_WRITE."""


class Limit(NamedTuple):
    """A limit of each process: `name` is that of setrlimit(2) without RLIMIT_."""

    name: str
    soft: int
    hard: int


PROCESSES = "nproc"
DEFAULT_LIMITS = (
    Limit("core", 1, 1),  # too little for a file, and unlike 0 a word to run no crash handler of the host's (core(5))
    Limit("nice", 0, 0),  # no process goes before the notebook's,
    Limit("rtprio", 0, 0),  # nor before everything else on the machine
    Limit("nofile", 1024, 524288),  # select(2) ends at 1024; programs that know better raise it, as under systemd
    Limit(PROCESSES, 4096, 4096),  # of one user in all of a notebook's containers: a fork bomb ends there
)
