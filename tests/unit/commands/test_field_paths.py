"""`inspect -f`: paths of fields, and Docker's simplest templates."""

from __future__ import annotations

import pytest

from nbcontainer.commands.field_paths import rendered
from nbcontainer.errors import UsageError

DOCUMENT = {
    "name": "dev",
    "config": {"Env": ["A=1", "B=2"], "Labels": {"org.x.y": "z", "org": "w"}, "n": 3, "none": None, "yes": True},
    "Same": 1,
    "same": 2,
}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("name", "dev"),
        (".name", "dev"),
        ("{{.name}}", "dev"),
        ("{{ .Name }}", "dev"),
        ("{{json .name}}", '"dev"'),
        ("config.Env", '["A=1", "B=2"]'),
        ("config.env.1", "B=2"),
        ("config.Labels.org.x.y", "z"),
        ("config.Labels.org", "w"),
        ("config.n", "3"),
        ("config.none", "null"),
        ("config.yes", "true"),
        ("same", "2"),
        ("{{json .config.n}}", "3"),
    ],
)
def test_a_field_is_shown(path: str, text: str) -> None:
    """Text as it is, other values as JSON; a label's dots are part of its name."""
    assert rendered(DOCUMENT, path) == text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nosuch", "no field 'nosuch' for --format nosuch; the fields are Same, config, name, same"),
        ("config.Env.2", "no field '2' for --format config.Env.2; write a number below 2"),
        ("config.Env.x", "no field 'x'"),
        ("name.x", "no field 'x' for --format name.x; the value has no fields"),
        ("SAME", "no field 'SAME'"),
        ("{{range .config.Env}}", "unsupported template '{{range .config.Env}}' for --format; write one field"),
        ("{{.a}}{{.b}}", "unsupported template"),
    ],
)
def test_a_field_that_is_not_there(path: str, message: str) -> None:
    """The error lists the fields that there are."""
    with pytest.raises(UsageError) as raised:
        rendered(DOCUMENT, path)
    assert str(raised.value).startswith(message)
