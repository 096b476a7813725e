"""The options of a run as keywords of Python callers. A test compares them with the option table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict


class ContainerKeywords(TypedDict, total=False):
    """The options of a run in a container that there is: those of `Container.run` and `Container.start`."""

    volumes: Iterable[str] | Mapping[str, str] | Mapping[Path, str]
    here: str | bool
    identity: bool
    mounts: Iterable[str]
    cache_dirs: Iterable[str] | Mapping[str, str]
    tmpfs: Iterable[str]
    env: Iterable[str] | Mapping[str, str | None]
    env_file: Iterable[str]
    workdir: str
    user: str
    group_add: Iterable[str]
    entrypoint: str
    hostname: str
    stop_signal: str
    timeout: float | str | None
    network: str
    publish: Iterable[str]
    add_host: Iterable[str] | Mapping[str, str]
    dns: Iterable[str]
    memory: str
    memory_swap: str
    cpus: float | str | None
    pids_limit: int | str | None
    ulimits: Iterable[str] | Mapping[str, str | int]
    shm_size: str
    storage: str
    oom_score_adj: int | str | None
    read_only: bool
    untrusted: bool
    cap_add: Iterable[str]
    cap_drop: Iterable[str]
    security_opt: Iterable[str]
    userns: str
    init: bool
    cache: str | bool
    toolbox: bool
    explain: bool


class RunKeywords(ContainerKeywords, total=False):
    """The options of `nbcontainer.run`. These choose the image and the container, and make it."""

    name: str
    labels: Iterable[str] | Mapping[str, str | None]
    remove: bool
    platform: str
    pull: str
