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


IMAGE = {
    "name": "app:1",
    "digest": "sha256:m",
    "manifest": {"config": {"digest": "sha256:c"}},
    "config": {"os": "linux", "config": {"Cmd": ["sh"], "Labels": {"a.b": "c"}}, "rootfs": {"diff_ids": ["sha256:d"]}},
    "layers": [],
}
CELL = {"outcome": {"exit_code": 3}}
CONTAINER = {"name": "dev", "created": "now", "image": "app", "image_digest": "sha256:m", "labels": {"k": "v"}}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("{{.Id}}", "sha256:c"),
        ("{{.RepoTags}}", '["app:1"]'),
        ("{{.Config.Cmd}}", '["sh"]'),
        ("{{index .Config.Cmd}}", None),
        ("Config.Labels.a.b", "c"),
        ("Config.Entrypoint", "null"),
        ("{{.Config.WorkingDir}}", ""),
        ("RootFS.Layers.0", "sha256:d"),
        ("Os", "linux"),
        ("config.os", "linux"),
        ("config.Cmd", '["sh"]'),
        ("Config.os", "linux"),
        ("config.config.Cmd.0", "sh"),
        ("Config.Nope", None),
    ],
)
def test_dockers_paths_find_what_an_image_has(path: str, text: str | None) -> None:
    """A path that begins with a capital is one of Docker's document, where that has it; ours has the rest."""
    if text is None:
        with pytest.raises(UsageError):
            rendered(IMAGE, path)
    else:
        assert rendered(IMAGE, path) == text


@pytest.mark.parametrize(
    ("running", "cells", "state"),
    [
        (None, [], '{"Status": "created", "Running": false, "ExitCode": 0}'),
        (None, [CELL], '{"Status": "exited", "Running": false, "ExitCode": 3}'),
        ({"pid": 5}, [CELL], '{"Status": "running", "Running": true, "ExitCode": 3}'),
    ],
)
def test_dockers_paths_find_the_state_of_a_container(running: object, cells: list[object], state: str) -> None:
    """The status has Docker's words, and the exit code is that of the last cell."""
    document = {**CONTAINER, "running": running, "cells": cells}
    assert rendered(document, "{{json .State}}") == state
    assert rendered(document, "{{.Config.Labels.k}}") == "v"
    assert rendered(document, "Image") == "sha256:m"
