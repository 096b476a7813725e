"""The program that runs a function of `map` in a container, beside the codecs that read what it writes."""

from __future__ import annotations

import re

from nbcontainer.values.registry import codecs
from tests.documents import PACKAGE

READ_ONLY = {"parquet": "tables come back as Arrow files, or as CSV without pyarrow"}
"""By the suffixes that the program does not write: the reason."""


def written() -> set[str]:
    """The suffixes of the files that the program writes."""
    text = (PACKAGE / "mapping" / "inside.py").read_text()
    return set(re.findall(r'(?:\bwrite\(|\bOUT \+ )"(\w+)"', text))


def test_each_form_that_is_written_has_a_codec() -> None:
    """A value would otherwise come back as bytes."""
    assert len(written()) > 5
    assert written() <= {codec.suffix for codec in codecs()}


def test_each_codec_has_a_writer() -> None:
    """The program does not use the codecs: the form of a new one needs a writer there, too, or a reason."""
    built_in = {codec.suffix for codec in codecs() if type(codec).__module__.startswith("nbcontainer.")}
    missing = built_in - written() - set(READ_ONLY)
    assert not missing, f"add a writer to mapping/inside.py, or a reason to READ_ONLY: {', '.join(sorted(missing))}"
    assert not written() & set(READ_ONLY)
