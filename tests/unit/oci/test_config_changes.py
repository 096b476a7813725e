"""`--change`: instructions of a Dockerfile applied to an image's configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.oci.config_changes import apply
from nbcontainer.oci.documents import ImageConfig

BASE = ImageConfig(
    env=("A=1", "B=2"), entrypoint=("tini",), cmd=("sh",), working_dir="/srv", labels={"k": "v"}, user="root"
)


@pytest.mark.parametrize(
    ("instruction", "changed"),
    [
        ('CMD ["python3", "-c", "print(1)"]', {"cmd": ("python3", "-c", "print(1)")}),
        ("CMD python3 app.py", {"cmd": ("/bin/sh", "-c", "python3 app.py")}),
        ("CMD []", {"cmd": ()}),
        ("cmd ls", {"cmd": ("/bin/sh", "-c", "ls")}),
        ('ENTRYPOINT ["app"]', {"entrypoint": ("app",), "cmd": ()}),
        ("ENTRYPOINT app --x", {"entrypoint": ("/bin/sh", "-c", "app --x"), "cmd": ()}),
        ("ENV C=3", {"env": ("A=1", "B=2", "C=3")}),
        ("ENV A=x=y B='two words'", {"env": ("A=x=y", "B=two words")}),
        ("ENV A two words", {"env": ("A=two words", "B=2")}),
        ("ENV A=", {"env": ("A=", "B=2")}),
        ("LABEL a=b 'c d'=e", {"labels": {"k": "v", "a": "b", "c d": "e"}}),
        ("LABEL k=w", {"labels": {"k": "w"}}),
        ("USER 1000:1000", {"user": "1000:1000"}),
        ("WORKDIR /app", {"working_dir": "/app"}),
        ("WORKDIR app", {"working_dir": "/srv/app"}),
        ("EXPOSE 8080", {"other": {"ExposedPorts": {"8080/tcp": {}}}}),
        ("EXPOSE 53/udp 80", {"other": {"ExposedPorts": {"53/udp": {}, "80/tcp": {}}}}),
    ],
)
def test_an_instruction_changes_its_own_field(instruction: str, changed: dict[str, Any]) -> None:
    """Each instruction does what it does in a Dockerfile, and leaves the rest as it was."""
    assert apply(BASE, instruction) == replace(BASE, **changed)


def test_the_shell_form_takes_the_images_shell() -> None:
    """A command that is no list runs by the image's SHELL."""
    config = replace(BASE, shell=("/bin/bash", "-c"))
    assert apply(config, "CMD ls").cmd == ("/bin/bash", "-c", "ls")


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("RUN ls", "unknown instruction in --change 'RUN ls'; use one of CMD, ENTRYPOINT, ENV"),
        ("", "unknown instruction in --change ''; use one of"),
        ("CMD", "missing value in --change 'CMD'; write a value after CMD"),
        ("ENV  ", "missing value in --change 'ENV  '; write a value after ENV"),
        ('CMD ["ls"', "invalid JSON list '[\"ls\"': "),
        ('CMD ["ls", 1]', "invalid list '[\"ls\", 1]': expected only strings; write it as in"),
        ("ENV A", "invalid list 'A': expected NAME=value; write NAME=value"),
        ("ENV A=1 B", "invalid list 'A=1 B': expected NAME=value"),
        ("ENV =1", "invalid list '=1': expected NAME=value"),
        ("ENV A='x", 'cannot parse "A=\'x": No closing quotation; check its quotes'),
        ("LABEL ''", "invalid list \"''\": expected NAME=value"),
        ("EXPOSE http", "invalid port in EXPOSE http/tcp; write a number"),
    ],
)
def test_what_is_no_instruction(instruction: str, message: str) -> None:
    """A word that is not known, nothing said and a value that cannot be read are refused with what to write."""
    with pytest.raises(UsageError) as raised:
        apply(BASE, instruction)
    assert str(raised.value).startswith(message)
    assert raised.value.hint
