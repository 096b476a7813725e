"""The sample of the sets of parameters that plain users run in CI."""

from __future__ import annotations

import pytest

from tests.sampling import spread

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("there", "most", "kept"),
    [(0, 3, []), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (9, 3, [0, 4, 8]), (10, 4, [0, 3, 6, 9]), (5, 1, [0])],
)
def test_a_sample_is_spread_evenly(there: int, most: int, kept: list[int]) -> None:
    """The first and the last are in it, and no more than were asked for."""
    assert list(spread(range(there), most)) == kept


def test_each_test_runs_with_some_of_its_sets(pytester: pytest.Pytester) -> None:
    """Tests without parameters all run, those with many run with a few, and the others are counted as left out."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("n", range(10))
        def test_many(n): pass
        def test_one(): pass
        """
    )
    words = ("-p", "tests.sampling", "-p", "no:cacheprovider", "--sample", "3")
    pytester.runpytest_inprocess(*words).assert_outcomes(passed=4, deselected=7)


def test_no_attack_is_left_out(pytester: pytest.Pytester) -> None:
    """Each set of parameters is an attack of its own."""
    folder = pytester.mkpydir("attacks")
    (folder / "test_many.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(10))\ndef test_many(n): pass\n"
    )
    words = ("-p", "tests.sampling", "-p", "no:cacheprovider", "--sample", "3")
    pytester.runpytest_inprocess(*words).assert_outcomes(passed=10)
