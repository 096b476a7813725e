"""Any text as the value of an option: a value comes out, or one of this package's errors in one line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbcontainer.commands import field_paths
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.variables import parse_env_file
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.errors import NbcontainerError
from nbcontainer.oci import reference
from nbcontainer.oci.config_changes import apply_all
from nbcontainer.oci.documents import ImageConfig
from tests.fuzzing import examples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIECES = (
    *"/ : , = . .. ~ - \" ' \\ $ ${ } % @ [ ] type bind volume tmpfs source target /tmp /data ro z size".split(),
    *"10 1k mode 755 uid sha256 busybox oci: docker:// ENV CMD VOLUME EXPOSE 8000 A ü ٣".split(),
    *(" ", "\t", "\n", "\0", "\ud800", "\udc80"),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=9).map("".join) | st.text(max_size=20)
OPTIONS = (
    "-v --mount --tmpfs -e --env-file --group-add --stop-signal -h --add-host --dns --label -u -w --ulimit -p".split()
)
INSTRUCTIONS = "CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR".split()
FEW = examples(30)


def ours(do: Callable[[], Any]) -> None:
    """Does something that may fail in this package's way only: one line, and what to do."""
    failed: NbcontainerError | None = None
    try:
        do()
    except NbcontainerError as error:
        failed = error
    assert failed is None or ("\n" not in str(failed) and failed.hint), failed


@pytest.mark.parametrize("option", OPTIONS)
@FEW
@given(text=TEXTS)
@example(text="/\ud800:/x")
@example(text="/tmp:/\ud800")
@example(text="type=bind,source=/\ud800,target=/x")
def test_an_option_of_a_run(option: str, text: str) -> None:
    """It sets its fields, or is refused."""
    ours(lambda: request_of(parse(RUN, [option, text, "busybox"])))


@FEW
@given(text=TEXTS, other=TEXTS)
def test_a_change(text: str, other: str) -> None:
    """Instructions of `--change`."""
    for name in INSTRUCTIONS:
        ours(lambda name=name: apply_all(ImageConfig(env=("A=1",)), [f"{name} {text}", f"ENV {other}"]))  # type: ignore[misc]
    ours(lambda: apply_all(ImageConfig(), [text]))


@FEW
@given(data=st.binary(max_size=60) | TEXTS.map(lambda text: text.encode(errors="surrogatepass")))
def test_a_file_of_variables(tmp_path: Path, data: bytes) -> None:
    """Bytes of any kind."""
    (tmp_path / "env").write_bytes(data)
    ours(lambda: parse_env_file(os.fspath(tmp_path / "env")))


@FEW
@given(text=TEXTS)
def test_a_name_of_an_image(text: str) -> None:
    """A name, or a file."""
    ours(lambda: reference.image_file(text) if reference.is_path(text) else reference.parse(text))


@FEW
@given(text=TEXTS)
def test_a_path_of_a_field(text: str) -> None:
    """`inspect -f`."""
    ours(lambda: field_paths.rendered({"A": [{"/": "x"}], "type": {"10": None}}, text))
