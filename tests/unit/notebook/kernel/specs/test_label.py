"""Labels of images that describe kernels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.notebook.kernel.specs.label import KernelLabel, ShellLabel, read_label

ARGV = ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
GOOD: dict[str, Any] = {"argv": ARGV, "language": "python", "interrupt_mode": "signal"}


def test_a_label_is_read() -> None:
    """A program with its language and its interrupts, or the name of a shell; other keys are ignored."""
    assert read_label(json.dumps({**GOOD, "env": {"LD_PRELOAD": "/x"}})) == KernelLabel(tuple(ARGV), "python", "signal")
    assert read_label('{"shell": "dash"}') == ShellLabel("dash")
    assert read_label('{"shell": ""}') == ShellLabel("")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "{}",
        "[]",
        "[" * 100_000,
        '{"shell": "x"}' + " " * 20_000,
        *(
            json.dumps(values)
            for values in (
                {"shell": 1},
                {"shell": "sh\nid"},
                {"shell": "\0"},
                {"shell": "\ud800"},
                {**GOOD, "argv": "python3 {connection_file}"},
                {**GOOD, "argv": []},
                {**GOOD, "argv": ["python3"]},
                {**GOOD, "argv": ["", "{connection_file}"]},
                {**GOOD, "argv": ["x\0", "{connection_file}"]},
                {**GOOD, "argv": [1, "{connection_file}"]},
                {**GOOD, "argv": ["{connection_file}"] * 1000},
                {**GOOD, "language": ["python"]},
                {**GOOD, "language": "a\x1b[2J"},
                {**GOOD, "language": "../../python"},
                {**GOOD, "language": "<script>"},
                {**GOOD, "language": "x" * 65},
                {**GOOD, "interrupt_mode": "none"},
                {"argv": ARGV},
            )
        ),
    ],
)
def test_a_false_label_is_refused(text: str) -> None:
    """Wrong types, missing keys, control characters, and values that are too long: one line, with a hint."""
    with pytest.raises(UsageError, match=r"^invalid label org\.nbcontainer\.kernel in the image: .*--kernel") as caught:
        read_label(text)
    assert "\n" not in str(caught.value)
