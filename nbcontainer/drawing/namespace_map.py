"""What a container shares with the host: each kind of namespace (namespaces(7)), its own one or the host's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbcontainer.drawing import svg
from nbcontainer.rendering import page

_KINDS = {
    "user": "user and group ids, capabilities",
    "mnt": "mounts: what each path leads to",
    "pid": "process numbers",
    "net": "interfaces, addresses, ports",
    "ipc": "shared memory, message queues",
    "uts": "host name",
    "cgroup": "the names of control groups",
    "time": "the clock since boot",
}
_WIDTH, _LEFT, _RIGHT = 760, 330, 560


@dataclass(frozen=True)
class Namespace:
    """One kind of namespace. `host` and `container` are the numbers of the namespaces (the inodes in /proc/PID/ns)."""

    kind: str
    host: int
    container: int

    @property
    def shared(self) -> bool:
        """Whether the container is in the host's namespace."""
        return self.host == self.container

    @property
    def what(self) -> str:
        """What it separates, briefly."""
        return _KINDS.get(self.kind, "")


@dataclass(frozen=True)
class NamespaceMap:
    """The namespaces of a container, beside those of the notebook. `ids` says which users it has, briefly."""

    namespaces: tuple[Namespace, ...]
    ids: str = ""

    def __str__(self) -> str:
        lines = [f"{'namespace':<10} {'container':<12} {'host':<12} separates"]
        for one in self.namespaces:
            own = "the host's" if one.shared else str(one.container)
            lines.append(f"{one.kind:<10} {own:<12} {one.host:<12} {one.what}")
        return "\n".join((*lines, *((f"users: {self.ids}",) if self.ids else ())))

    __repr__ = __str__

    def as_json(self) -> dict[str, Any]:
        """Return the namespaces as JSON values."""
        return {"namespaces": [{**vars(one), "shared": one.shared} for one in self.namespaces], "ids": self.ids}

    def _repr_html_(self) -> str:
        return page.page(self.as_svg())

    def as_svg(self) -> str:
        """Return two columns, the host and the container: a line joins what they share."""
        parts = [svg.text(_LEFT, 16, "host", bold=True), svg.text(_RIGHT, 16, "container", bold=True)]
        height = 26
        for one in self.namespaces:
            parts += _row(one, height)
            height += 30
        if self.ids:
            parts.append(svg.text(0, height + 14, f"users: {self.ids}", colour=svg.DIM))
            height += svg.LINE + 6
        return svg.drawing("What the container shares with the host", _WIDTH, height + 4, parts)


def _row(one: Namespace, y: float) -> list[str]:
    colour = svg.WARN if one.shared else svg.GOOD
    parts = [
        svg.text(0, y + 16, one.kind, bold=True),
        svg.text(60, y + 16, _KINDS.get(one.kind, ""), colour=svg.DIM),
        svg.box(_LEFT, y, 120, 24),
        svg.text(_LEFT + 8, y + 16, str(one.host)),
    ]
    if one.shared:
        joined = [
            svg.line(_LEFT + 120, y + 12, _RIGHT, y + 12, colour=colour),
            svg.box(_RIGHT, y, 190, 24, colour=colour),
        ]
        return [*parts, *joined, svg.text(_RIGHT + 8, y + 16, "shared with the host", colour=colour)]
    own = [svg.box(_RIGHT, y, 190, 24, colour=colour), svg.text(_RIGHT + 8, y + 16, f"its own: {one.container}")]
    return [*parts, *own]
