"""The drawing of mounts: a tree as text, as SVG and as JSON."""

from __future__ import annotations

import json
import re

from nbcontainer.drawing.mount_tree import DrawnMount, MountTree

EVIL = "/<b>&\x1b[31m"
MOUNTS = (
    DrawnMount(10, 1, "/", "overlay", "the image's layers", read_only=False, flags=("nodev",)),
    DrawnMount(11, 10, "/proc", "proc", "processes", read_only=False),
    DrawnMount(12, 11, "/proc/sys", "proc", "read-only", read_only=True),
    *(DrawnMount(20 + n, 10, f"/dev/{n}", "devtmpfs", "device of the host", read_only=True) for n in range(7)),
    DrawnMount(40, 10, EVIL, "ext4", f"volume {EVIL}", read_only=True, propagation="receives"),
)
TREE = MountTree(MOUNTS)


def test_the_text_is_a_tree_with_the_facts_of_each_mount() -> None:
    """Mounts of one kind are folded, and a path cannot write to the terminal."""
    lines = str(TREE).splitlines()
    assert [re.split(r"  +(?=r[ow])", line)[0].rstrip() for line in lines] == [
        "/",
        "├─ /proc",
        "│  └─ /proc/sys",
        "├─ /<b>&\\x1b[31m",
        "└─ device of the host: /dev/0, /dev/1, /dev/2, … (7)",
    ]
    assert lines[0].endswith("rw,nodev  the image's layers")
    assert lines[1].endswith("rw        processes")
    assert lines[3].endswith("receives changes")
    assert "\x1b" not in str(TREE)


def test_the_svg_has_a_column_for_each_kind_of_fact() -> None:
    """Access, what is mounted, and flags: each begins at one place, and a folded row does not move them away."""
    places = {label: float(x) for x, label in re.findall(r'<text x="([\d.]+)"[^>]*>([^<]*)</text>', TREE.as_svg())}
    assert places["rw"] == places["ro"] < 200
    assert places["the image&#x27;s layers"] == places["processes"] == places["read-only"]
    assert places["nodev"] > places["processes"]


def test_the_svg_has_selectable_text_and_no_markup_of_a_path() -> None:
    """Each label is a <text>, and what a path contains is escaped."""
    shown = TREE.as_svg()
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", shown)
    assert "/proc/sys" in labels
    assert "/&lt;b&gt;&amp;\\x1b[31m" in labels
    assert set(re.findall(r"<([a-z]+)", shown)) == {"svg", "title", "text", "path"}
    assert 'role="img" aria-label="The mounts that the cell sees"' in shown


def test_a_long_path_does_not_make_the_drawing_wide() -> None:
    """The drawing shows the beginning and the end of a long path, and the whole as a tooltip. The text has it whole."""
    path = "/data/" + "deep/" * 60 + "end"
    tree = MountTree((DrawnMount(1, 0, path, "ext4", f"volume {path}", read_only=True),))
    assert float(re.findall(r'width="(\d+)"', tree.as_svg())[0]) < 1200
    assert f"<title>{path}</title>" in tree.as_svg()
    assert re.search(r">/data/deep/[^<]*…[^<]*/end</text>", tree.as_svg())
    assert path in str(tree)


def test_the_lines_of_the_svg_lead_to_the_last_mount_below() -> None:
    """One vertical line for each mount that has others below it."""
    assert len(re.findall(r'd="M([\d.]+) [\d.]+L\1 ', TREE.as_svg())) == 2


def test_the_json_has_the_fields() -> None:
    """Numbers as numbers, and flags as a list."""
    first = json.loads(json.dumps(TREE.as_json()))[0]
    assert first["number"] == 10
    assert first["flags"] == ["nodev"]
    assert first["read_only"] is False


def test_a_tree_without_mounts_is_empty() -> None:
    """Nothing fails where nothing is mounted."""
    assert str(MountTree(())) == ""
    assert "<svg" in MountTree(()).as_svg()
