"""Times that are written down, and SOURCE_DATE_EPOCH."""

from __future__ import annotations

import re

import pytest

from nbcontainer.errors import ImageError
from nbcontainer.oci.timestamps import source_date_epoch, timestamp


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("0", 0), ("1700000000", 1_700_000_000)])
def test_source_date_epoch(monkeypatch: pytest.MonkeyPatch, text: str, seconds: int | None) -> None:
    """It is a number of seconds, and empty as good as unset."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert source_date_epoch() == seconds


@pytest.mark.parametrize("text", ["yesterday", "-1", "1.5", "²", "9" * 30, "9" * 5000, "253402300800"])
def test_a_source_date_epoch_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Anything else is one clear error, and no date."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(ImageError, match=re.escape("set it to seconds since 1970, or unset it")):
        timestamp()


def test_timestamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 3339 in UTC: of a given time, of SOURCE_DATE_EPOCH, of now."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "253402300799")
    assert timestamp(0) == "1970-01-01T00:00:00Z"
    assert timestamp() == "9999-12-31T23:59:59Z"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", timestamp())


def test_a_part_of_a_second_counts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time is that of the second that it lies in, before 1970 as well."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    found = [timestamp(seconds) for seconds in (0.9, 1.0, 0.2, -0.5)]
    assert found == ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z"]
