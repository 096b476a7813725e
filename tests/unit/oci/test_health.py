"""HEALTHCHECK: what an image states, which is not trusted, and the instruction of `--change`."""

from __future__ import annotations

from typing import Any

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.oci.config_changes import apply_all
from nbcontainer.oci.documents import ImageConfig
from nbcontainer.oci.health import HealthCheck, check_of, with_check

SECOND = 10**9


def check(values: Any) -> HealthCheck | None:
    return check_of(ImageConfig(other={"Healthcheck": values}))


def test_a_check_has_its_command_and_times() -> None:
    """In the exec form, and by the image's shell; missing times are Docker's defaults."""
    values = {
        "Test": ["CMD", "ls", "/"],
        "Interval": 2 * SECOND,
        "Timeout": SECOND,
        "StartPeriod": 3 * SECOND,
        "Retries": 5,
    }
    assert check(values) == HealthCheck(("ls", "/"), 2.0, 1.0, 3.0, 5.0, 5)
    assert check({"Test": ["CMD-SHELL", "ls /"]}) == HealthCheck(("/bin/sh", "-c", "ls /"))


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"Test": []},
        {"Test": ["NONE"]},
        {"Test": ["CMD"]},
        {"Test": "CMD ls"},
        {"Test": ["CMD-SHELL"]},
        {"Test": ["CMD", 1]},
        {"Test": ["CMD", "a\0b"]},
        {"Test": ["X", "ls"]},
    ],
)
def test_a_check_that_is_not_valid_is_none(values: Any) -> None:
    """An image can state anything; the job runs without a check."""
    assert check(values) is None


@pytest.mark.parametrize("value", [-1, 0, 1, "1s", None, 1e9, True, 10**30, [1]])
def test_times_that_are_not_valid_are_the_defaults(value: Any) -> None:
    """No time is so short that checks follow each other at once, or so long that it overflows."""
    found = check(
        {"Test": ["CMD", "ls"], "Interval": value, "Timeout": value, "StartInterval": value, "Retries": value}
    )
    assert found is not None
    assert (found.interval, found.timeout, found.start_interval) == (30.0, 30.0, 5.0)
    assert found.retries == (1 if value == 1 and value is not True else 3)


@pytest.mark.parametrize(
    ("instruction", "values"),
    [
        ("HEALTHCHECK NONE", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD ls /ready", {"Test": ["CMD-SHELL", "ls /ready"]}),
        ("HEALTHCHECK CMD [ -e /x ] || exit 1", {"Test": ["CMD-SHELL", "[ -e /x ] || exit 1"]}),
        ('HEALTHCHECK CMD [ "$A" = x ]', {"Test": ["CMD-SHELL", '[ "$A" = x ]']}),
        ("HEALTHCHECK CMD [[ -e /x ]]", {"Test": ["CMD-SHELL", "[[ -e /x ]]"]}),
        ('HEALTHCHECK CMD [ "ls" ]', {"Test": ["CMD", "ls"]}),
        ('healthcheck cmd ["ls", "/x"]', {"Test": ["CMD", "ls", "/x"]}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --retries=4 CMD true",
            {
                "Test": ["CMD-SHELL", "true"],
                "Interval": 90 * SECOND,
                "Timeout": SECOND // 2,
                "StartPeriod": 2 * SECOND,
                "Retries": 4,
            },
        ),
    ],
)
def test_an_instruction_sets_the_check(instruction: str, values: dict[str, Any]) -> None:
    """`--change` takes what a Dockerfile takes."""
    assert apply_all(ImageConfig(), [instruction]).other["Healthcheck"] == values


@pytest.mark.parametrize("text", ["none ", "\tNONE", "CMD\ttrue", "--interval=5s\tCMD  true", " CMD true"])
def test_words_are_separated_by_any_space(text: str) -> None:
    """As in a Dockerfile."""
    found = with_check(ImageConfig(), text)
    assert found["Test"] == (["NONE"] if "none" in text.lower() else ["CMD-SHELL", "true"])


@pytest.mark.parametrize("text", ["500us", "1ns", "0.9ms"])
def test_a_time_of_less_than_a_millisecond_is_refused(text: str) -> None:
    """Docker refuses it, too; 0 is the default."""
    with pytest.raises(UsageError, match="write 1ms or more"):
        with_check(ImageConfig(), f"--interval={text} CMD true")
    assert with_check(ImageConfig(), "--interval=0s CMD true")["Interval"] == 0
