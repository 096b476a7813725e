"""Tables are shown in part: what a page gets of a large one is small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nbcontainer.values import show
from nbcontainer.values.inert import HTML, TEXT

LONG = "long" * 1_000_000
WIDE = pd.DataFrame(np.zeros((60, 3000)))
TABLES = {
    "wide": WIDE,
    "long": pd.DataFrame(np.zeros((100_000, 3))),
    "a long name": pd.DataFrame({LONG: [1, 2], "y": [1, 2]}),
    "a long text": pd.DataFrame({"x": [LONG] * 60}),
    "long rows": pd.DataFrame({"x": [1, 2]}, index=pd.Index([LONG, "y"], name=LONG)),
    "levels": pd.DataFrame({("a", LONG): [1], ("a", "c"): [2]}, index=pd.MultiIndex.from_tuples([(LONG, 1)])),
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": []}, index=pd.MultiIndex.from_arrays([[], []], names=["x", LONG])),
    "times": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2, name="t")),
    "text": LONG,
    "without pandas": pa.table({LONG: [1], "y": [LONG]}),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_little_of_a_large_table_is_shown(table: object) -> None:
    """Its first and last rows and columns, and the beginnings of texts and names."""
    bundle = show._table(table)
    assert len(bundle.get(HTML, "")) < 50_000
    assert len(bundle[TEXT]) < (50_000 if HTML in bundle else 1_100_000)


def test_a_part_of_a_table_says_how_large_the_table_is() -> None:
    """The first and the last ones are there, and dots in between; a small table is whole, without a line more."""
    bundle = show._table(WIDE)
    assert bundle[HTML].endswith("<p>60 rows, 3000 columns</p>")
    assert "<th>9</th>" in bundle[HTML]
    assert "<th>10</th>\n      <th>11</th>" not in bundle[HTML]
    assert "<th>2999</th>" in bundle[HTML]
    assert "<th>...</th>" in bundle[HTML]
    small = pd.DataFrame({"a": range(60), "b": "x"})
    assert show._table(small)[HTML].count("<tr") == 61
    assert "rows" not in show._table(small)[HTML]
    assert show._table(small)[TEXT] == small.to_string()
