"""The drawing of namespaces."""

from __future__ import annotations

import json
import re

from nbcontainer.drawing.namespace_map import Namespace, NamespaceMap

DRAWN = NamespaceMap((Namespace("mnt", 1, 2), Namespace("net", 3, 3)), "root alone")


def test_a_shared_namespace_is_joined_to_the_hosts() -> None:
    """A line joins the two boxes of what is shared, and of nothing else."""
    shown = DRAWN.as_svg()
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", shown)
    assert labels.count("shared with the host") == 1
    assert "its own: 2" in labels
    assert shown.count("<path") == 1
    assert shown.count("<rect") == 4


def test_the_text_is_a_table() -> None:
    """A row for each kind."""
    lines = str(DRAWN).splitlines()
    assert lines[1].split()[:3] == ["mnt", "2", "1"]
    assert "the host's" in lines[2]
    assert lines[-1] == "users: root alone"


def test_the_json_says_what_is_shared() -> None:
    """With the numbers that the kernel has."""
    found = json.loads(json.dumps(DRAWN.as_json()))["namespaces"]
    assert [(one["kind"], one["shared"], one["host"]) for one in found] == [("mnt", False, 1), ("net", True, 3)]
