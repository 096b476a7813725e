"""The program that writes what a function returned: one file, or one line that says what to return instead."""

from __future__ import annotations

import collections
import datetime
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.mapping import inside
from nbcontainer.values.registry import codec_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMS = "; return text, bytes, what JSON can hold, an array, a table or a figure"


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in place of /out."""
    monkeypatch.setattr(inside, "OUT", f"{tmp_path}/value.")
    return tmp_path


def there_and_back(value: Any, out: Path) -> Any:
    """What the notebook reads of what the program wrote."""
    inside.save(value)
    (path,) = out.iterdir()
    codec = codec_of(path.suffix[1:])
    assert codec is not None
    with path.open("rb") as file:
        return codec.read(file)


def refusal(value: Any) -> str:
    """The line that the program ends with."""
    with pytest.raises(SystemExit) as raised:
        inside.save(value)
    assert isinstance(raised.value.code, str)
    assert "\n" not in raised.value.code
    return raised.value.code


@pytest.mark.parametrize("value", ["text", b"bytes", None, True, [1, {"a": {"b": None}}], {"": [{}]}, {"NaN": 1.5}])
def test_plain_values_come_back(value: Any, out: Path) -> None:
    """Text, bytes and what JSON can hold are as they were."""
    assert there_and_back(value, out) == value


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({1: "a", "1": "b"}, "the key 1 of type 'int'"),
        ([{"a": ({None: 1},)}], "the key None of type 'NoneType'"),
        ({True: 1}, "the key True of type 'bool'"),
        ({(1, 2): 3}, "the key (1, 2) of type 'tuple'"),
        (collections.Counter([1.5]), "the key 1.5 of type 'float'"),
    ],
)
def test_a_key_that_would_become_text_is_refused(value: Any, key: str) -> None:
    """It would come back as another one, or replace one. The line names it."""
    kind = type(value).__name__
    assert refusal(value) == (
        f"cannot return a value of type '{kind}': {key} would become text;"
        " return list(value.items()), or use text as keys"
    )


def circle() -> list[Any]:
    """A list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


def nested() -> list[Any]:
    """A list of more levels than Python's stack has."""
    found: list[Any] = []
    for _ in range(200_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: {1}, "set"),
        (lambda: datetime.date(2026, 1, 2), "date"),
        (lambda: "\ud800", "str"),
        (lambda: 10**5000, "int"),
        (circle, "list"),
        (nested, "list"),
        (lambda: [object()], "list"),
    ],
)
def test_a_value_without_a_form_is_one_line(make: Callable[[], Any], kind: str) -> None:
    """It names the type and what can be returned; no traceback of this program is shown."""
    line = refusal(make())
    assert line.startswith(f"cannot return a value of type '{kind}': ")
    assert line.endswith(FORMS)


@pytest.mark.parametrize(
    ("package", "expression", "detail"),
    [
        ("numpy", "numpy.dtype('f8')", "it is neither an array nor a number of NumPy"),
        ("numpy", "numpy.random.default_rng()", "it is neither an array nor a number of NumPy"),
        ("numpy", "numpy.ma.masked_array([1, 2], [0, 1])", "the mask would be lost"),
        ("numpy", "numpy.array([{}])", "an array of Python objects is not sent"),
        ("pandas", "pandas.Timestamp('2026-01-02')", "it is not a table"),
        ("pandas", "pandas.NA", "it is not a table"),
        ("pandas", "pandas.DataFrame([[1, 2]], columns=['a', 'a'])", "several columns have the name 'a'"),
        ("pandas", "pandas.DataFrame([[1, 2]], columns=[1, '1'])", "several columns have the name '1'"),
        ("pandas", "pandas.DataFrame({'a': [1, 'x']})", ""),
        ("pyarrow", "pyarrow.scalar(1)", "it is not a table"),
        ("polars", "polars.col('a')", "it is not a table"),
        ("PIL.Image", "PIL.Image.new('CMYK', (1, 1))", "cannot write mode CMYK as PNG"),
        ("PIL.ImageFilter", "PIL.ImageFilter.BLUR()", "it is not an image"),
        ("matplotlib.figure", "matplotlib.figure.Figure().add_subplot()", "it is not a figure"),
    ],
)
def test_other_values_of_packages_are_one_line(package: str, expression: str, detail: str) -> None:
    """What a package raises about them is not shown as it is: the line is that of any other type."""
    pytest.importorskip(package)
    value = eval(expression, {(name := package.partition(".")[0]): importlib.import_module(name)})
    line = refusal(value)
    assert line.startswith(f"cannot return a value of type '{type(value).__name__}': {detail}")
    assert "; " in line


@pytest.mark.parametrize("kind", ["float64", "float32", "int8", "bool", "complex128", "datetime64[s]"])
def test_a_scalar_of_numpy_comes_back_as_one(kind: str, out: Path) -> None:
    """The most common value of a function is a number of NumPy, and not an array without dimensions."""
    np = pytest.importorskip("numpy")
    value = np.ones(1).astype(kind)[0]
    found = there_and_back(value, out)
    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize("expression", ["frame['a']", "frame", "frame.set_index('a').index"])
def test_tables_of_pandas_come_back(expression: str, out: Path) -> None:
    """A series and an index become tables of one column."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [3, 4]}, index=[7, 8])
    found = there_and_back(eval(expression, {"frame": frame}), out)
    assert list(found["a"]) == [3, 4]


@pytest.mark.parametrize("expression", ["frame", "frame.lazy()", "frame['a']"])
def test_tables_of_polars_come_back(expression: str, out: Path) -> None:
    """A series and a query become tables."""
    pl = pytest.importorskip("polars")
    found = there_and_back(eval(expression, {"frame": pl.DataFrame({"a": [3, 4]})}), out)
    assert list(found["a"]) == [3, 4]


def test_batches_of_pyarrow_come_back(out: Path) -> None:
    """A batch is a table."""
    pa = pytest.importorskip("pyarrow")
    found = there_and_back(pa.RecordBatch.from_pydict({"a": [3, 4]}), out)
    assert list(found["a"]) == [3, 4]


def test_a_table_without_pyarrow_keeps_its_index(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as CSV, with an index that says something as a column."""
    pd = pytest.importorskip("pandas")
    two_levels = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")]))  # pandas makes it by pyarrow
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    inside.save(pd.DataFrame({"n": [1, 2]}, index=pd.Index(["x", "y"], name="word")))
    assert (out / "value.csv").read_text() == "word,n\nx,1\ny,2\n"
    inside.save(pd.DataFrame({"n": [1, 2]}))
    assert (out / "value.csv").read_text() == "n\n1\n2\n"
    assert "CSV has no columns of several levels; use an image with pyarrow" in refusal(two_levels)


def test_a_full_directory_is_one_line(out: Path) -> None:
    """The advice is to return less."""
    (out / "value.bin").symlink_to("/dev/full")
    assert refusal(b"x").endswith("No space left on device; " + inside.LESS)


def test_a_module_that_the_image_lacks_has_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module beside the notebook is sent if cloudpickle is asked for it."""

    def load(_: str) -> None:
        raise ModuleNotFoundError("No module named 'mymod'", name="mymod.part")

    monkeypatch.setattr(inside, "load", load)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as raised:
        inside.call("%d.%d" % sys.version_info[:2])  # noqa: UP031
    assert raised.value.code == (
        "the function needs a module that the image lacks: No module named 'mymod'; use an image that has it;"
        " if it is a file of yours, call cloudpickle.register_pickle_by_value(mymod) before `map`"
    )
