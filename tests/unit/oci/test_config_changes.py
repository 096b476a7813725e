"""`--change`: instructions of a Dockerfile applied to an image's configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from nbcontainer.commands.images import CHANGE
from nbcontainer.errors import UsageError
from nbcontainer.oci import config_changes
from nbcontainer.oci.config_changes import apply, apply_all
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
        ("CMD\tls", {"cmd": ("/bin/sh", "-c", "ls")}),
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
        ("EXPOSE 8000-8002/UDP", {"other": {"ExposedPorts": {f"{port}/udp": {} for port in (8000, 8001, 8002)}}}),
        ("EXPOSE $A", {"other": {"ExposedPorts": {"1/tcp": {}}}}),
        ("VOLUME /data", {"other": {"Volumes": {"/data": {}}}}),
        ("VOLUME /data /$A", {"other": {"Volumes": {"/data": {}, "/1": {}}}}),
        ('VOLUME ["/a b"]', {"other": {"Volumes": {"/a b": {}}}}),
        ("ONBUILD RUN echo $A", {"other": {"OnBuild": ["RUN echo $A"]}}),
        ("STOPSIGNAL SIGINT", {"other": {"StopSignal": "SIGINT"}}),
        ("STOPSIGNAL 9", {"other": {"StopSignal": "9"}}),
        ("STOPSIGNAL SIGRTMIN+3", {"other": {"StopSignal": "SIGRTMIN+3"}}),
        ("WORKDIR ../x/$A", {"working_dir": "/x/1"}),
        ("USER u$A:g", {"user": "u1:g"}),
        ("LABEL k=$A-${B}", {"labels": {"k": "1-2"}}),
        ("LABEL k=", {"labels": {"k": ""}}),
        ("CMD echo $A", {"cmd": ("/bin/sh", "-c", "echo $A")}),
    ],
)
def test_an_instruction_changes_its_own_field(instruction: str, changed: dict[str, Any]) -> None:
    """Each instruction does what it does in a Dockerfile, and leaves the rest as it was."""
    assert apply(BASE, instruction) == replace(BASE, **changed)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("C=/opt:$A", "/opt:1"),
        ("C=${A}x$B", "1x2"),
        ("C=$NONE|", "|"),
        ("C='$A'", "$A"),
        (r"C=\$A", "$A"),
        ('C="$A b"', "1 b"),
        (r'C="\$A \" \x"', r'$A " \x'),
        (r"C=a\ b", "a b"),
        ("C=${NONE:-none}", "none"),
        ("C=${NONE-${A}}", "1"),
        ("C=${A:-none}", "1"),
        ("C=${A:+set}", "set"),
        ("C=${NONE:+set}", ""),
        ("C=$", "$"),
        ("C=$9", "$9"),
        ("C two $A words", "two 1 words"),
        ("C x=$A", "x=1"),
        ("A=5 C=$A", "1"),
    ],
)
def test_variables_are_those_of_the_image(text: str, value: str) -> None:
    """As in a Dockerfile: by the environment before the instruction, quotes and backslashes as there."""
    assert f"C={value}" in apply(BASE, f"ENV {text}").env


def test_a_later_instruction_sees_an_earlier_one() -> None:
    """Several instructions are one Dockerfile."""
    assert apply_all(BASE, ["ENV C=$A", "ENV D=$C"]).env[-2:] == ("C=1", "D=1")


def test_an_entrypoint_drops_the_images_command_only() -> None:
    """A command that is set beside the entrypoint stays, in either order."""
    cmd, entrypoint = 'CMD ["x"]', 'ENTRYPOINT ["app"]'
    for changes in ([cmd, entrypoint], [entrypoint, cmd]):
        changed = apply_all(BASE, changes)
        assert (changed.entrypoint, changed.cmd) == (("app",), ("x",))
    assert apply_all(BASE, [entrypoint]).cmd == ()


def test_ports_volumes_and_triggers_add_up() -> None:
    """A second instruction adds to the first one and to the image's own."""
    changed = apply_all(BASE, ["VOLUME /a", "VOLUME /b", "ONBUILD RUN a", "ONBUILD RUN b", "EXPOSE 1", "EXPOSE 2"])
    assert changed.other == {
        "Volumes": {"/a": {}, "/b": {}},
        "OnBuild": ["RUN a", "RUN b"],
        "ExposedPorts": {"1/tcp": {}, "2/tcp": {}},
    }


def test_the_shell_form_takes_the_images_shell() -> None:
    """A command that is no list runs by the image's SHELL."""
    config = replace(BASE, shell=("/bin/bash", "-c"))
    assert apply(config, "CMD ls").cmd == ("/bin/bash", "-c", "ls")
    assert apply(config, "CMD [ -e /x ] && ls").cmd == ("/bin/bash", "-c", "[ -e /x ] && ls")


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("RUN ls", "unknown instruction in --change 'RUN ls'; use one of CMD, ENTRYPOINT, ENV"),
        ("FROM x", "unknown instruction in --change 'FROM x'; use one of CMD, ENTRYPOINT, ENV"),
        ("", "unknown instruction in --change ''; use one of"),
        ("CMD", "missing value in --change 'CMD'; write a value after CMD"),
        ("ENV  ", "missing value in --change 'ENV  '; write a value after ENV"),
        ('CMD ["ls"', "invalid JSON list '[\"ls\"': "),
        ('CMD ["ls", 1]', "invalid list '[\"ls\", 1]': expected only strings; write it as in"),
        ("ENV A", "invalid list 'A': expected NAME=value; write NAME=value"),
        ("ENV A=1 B", "invalid list 'A=1 B': expected NAME=value"),
        ("ENV =1", "invalid list '=1': expected NAME=value"),
        ("ENV A='x", 'cannot parse "A=\'x": No closing quotation; check its quotes'),
        ('ENV A="x', "cannot parse 'A=\"x': No closing quotation; check its quotes"),
        ("ENV A=${B", "cannot parse 'A=${B': no closing }; write ${NAME}"),
        ("ENV A=${B##x}", "unsupported variable ${B##x} in 'A=${B##x}'; write ${NAME}"),
        ("ENV A=${}", "unsupported variable ${} in"),
        ("ENV A=" + "${X-" * 30 + "}" * 30, "cannot parse "),
        ("HEALTHCHECK", "missing value in --change 'HEALTHCHECK'"),
        ("HEALTHCHECK ls", "invalid HEALTHCHECK 'ls'; write HEALTHCHECK [--interval=30s] CMD COMMAND"),
        ("HEALTHCHECK --often CMD ls", "unknown option '--often' in HEALTHCHECK; use one of --interval"),
        ("HEALTHCHECK --interval=x CMD ls", "invalid time 'x' for --interval in HEALTHCHECK; write it as in 30s"),
        ("HEALTHCHECK --retries=x CMD ls", "invalid number 'x' for --retries in HEALTHCHECK"),
        ('HEALTHCHECK CMD ["ls"', "invalid JSON list '[\"ls\"' in HEALTHCHECK"),
        ("VOLUME data", "the path 'data' in VOLUME data is not absolute; start it with /"),
        ('VOLUME ["/a"', "invalid JSON list '[\"/a\"': "),
        ("STOPSIGNAL SIGNONE", "unknown signal 'SIGNONE' in STOPSIGNAL; write a name or a number"),
        ("STOPSIGNAL 65", "unknown signal '65' in STOPSIGNAL"),
        ("ONBUILD ONBUILD RUN x", "ONBUILD cannot be followed by ONBUILD; write another"),
        ("ENV A=b\0c", "--change 'ENV A=b\\x00c' contains a NUL character; remove it"),
        ("EXPOSE 0", "invalid port in EXPOSE 0/tcp; write a number"),
        ("EXPOSE 70000", "invalid port in EXPOSE 70000/tcp; write a number"),
        ("EXPOSE 9-8", "invalid port in EXPOSE 9-8/tcp; write a number"),
        ("EXPOSE 80/icmp", "invalid port in EXPOSE 80/icmp; write a number"),
        ("EXPOSE \u0663", "invalid port in EXPOSE"),
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


def test_the_help_names_each_instruction() -> None:
    """The help text of `--change` has all instructions that it takes, in their order."""
    assert re.findall(r"[A-Z]{3,}", CHANGE.help) == list(config_changes._INSTRUCTIONS)
