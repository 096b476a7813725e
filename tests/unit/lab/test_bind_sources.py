"""What the laboratory's drawings say of bind mounts."""

from __future__ import annotations

from nbcontainer.lab.laboratory import bind_sources
from nbcontainer.linux.procfs import read_mounts

MOUNTS = read_mounts(
    """\
491 530 0:140 / /lab rw - tmpfs tmpfs rw,size=262144k
492 530 0:148 / /store rw - tmpfs tmpfs rw,size=262144k
493 491 0:140 /data /lab/root/data rw - tmpfs tmpfs rw,size=262144k
494 491 0:148 /a /lab/a ro - tmpfs tmpfs rw,size=262144k
495 491 0:150 / /lab/merged rw - overlay overlay rw
496 491 0:6 /null /dev/null ro - devtmpfs devtmpfs rw
497 491 0:151 /gone /lab/gone rw - tmpfs tmpfs rw
"""
)


def test_a_bind_mount_is_drawn_with_the_path_that_it_shows() -> None:
    """The file system decides which one, also between two of equal options; none is said if it is out of sight."""
    assert bind_sources(MOUNTS) == {"/lab/root/data": "bind of /lab/data", "/lab/a": "bind of /store/a"}


def test_a_root_in_memory_has_paths_of_its_own() -> None:
    """There is one slash between the top and the path."""
    mounts = read_mounts("1 0 0:9 / / rw - tmpfs tmpfs rw\n2 1 0:9 /a /b rw - tmpfs tmpfs rw\n")
    assert bind_sources(mounts) == {"/b": "bind of /a"}
