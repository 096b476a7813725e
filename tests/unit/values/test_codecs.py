"""Codecs: every value comes back from its file as it was, and files that a container made raise `ValueError` alone."""

from __future__ import annotations

import contextlib
import enum
import importlib.metadata
import io
import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.display import Image as Shown
from matplotlib.figure import Figure
from PIL import Image
from pyarrow import parquet

from nbcontainer.errors import UsageError
from nbcontainer.values import arrow_sizes, parquet_sizes, registry
from nbcontainer.values.codec import Codec
from nbcontainer.values.exchange import Input
from nbcontainer.values.registry import codec_for, codec_of, codecs
from tests.fuzzing import examples


def there_and_back(value: Any) -> Any:
    codec = codec_for("x", value)
    file = io.BytesIO()
    codec.write(value, file)
    file.seek(0)
    return codec.read(file)


@examples(100)
@given(st.text(st.characters(codec="utf-8")))
def test_text_comes_back(value: str) -> None:
    """Byte for byte, with its line ends."""
    assert there_and_back(value) == value


@examples(100)
@given(st.binary())
def test_bytes_come_back(value: bytes) -> None:
    """So do other views of bytes."""
    assert there_and_back(value) == there_and_back(bytearray(value)) == there_and_back(memoryview(value)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@examples(100)
@given(JSON)
def test_what_json_can_hold_comes_back(value: Any) -> None:
    """Infinities and integers of any size too."""
    if not isinstance(value, str):
        assert there_and_back(value) == value


def test_not_a_number_comes_back() -> None:
    """Python writes and reads it, though JSON does not have it."""
    assert math.isnan(there_and_back(math.nan))


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "f4", "f8", "c16", "U3", "S3", "M8[ns]"])
def test_arrays_come_back(kind: str) -> None:
    """With their type and their shape."""
    for value in (np.zeros((2, 0, 3), kind), np.ones((2, 3), "i8").astype(kind)):
        back = there_and_back(value)
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        assert np.array_equal(back, value)


FRAME = pd.DataFrame({"n": [1, 2], "t": ["a", None], "f": [0.5, math.inf], "d": pd.to_datetime(["2026-01-01", None])})


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "f4", "f8", "c16", "M8[s]"])
def test_scalars_come_back_as_scalars(kind: str) -> None:
    """A number of NumPy comes back as a number, and so does an array without dimensions."""
    value = np.ones(1, "i8").astype(kind)[0]
    for back in (there_and_back(value), there_and_back(np.asarray(value))):
        assert type(back) is type(value)
        assert back == value


def test_the_mask_of_an_array_is_not_lost() -> None:
    """An array with a mask is refused: its file would have what the mask hides."""
    with pytest.raises(ValueError, match="the mask of the array would be lost"):
        there_and_back(np.ma.masked_array([1, 2], [False, True]))


class Metres(np.ndarray[Any, Any]):
    """An array with a unit."""


def test_what_a_file_cannot_hold_of_an_array_is_not_lost() -> None:
    """The unit of another package's array is refused; NumPy's own kinds of arrays come back as plain ones."""
    with pytest.raises(ValueError, match=r"what .*Metres adds to the array would be lost"):
        there_and_back(np.arange(3).view(Metres))
    assert there_and_back(np.rec.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]))["b"].tolist() == [2]


@pytest.mark.parametrize(("fields", "fits"), [(300, True), (1000, False)])
def test_an_array_that_could_not_be_read_is_not_written(fields: int, fits: bool) -> None:
    """NumPy reads a description of its type of at most 10000 characters."""
    value = np.zeros(2, [(f"field{number}", "i4") for number in range(fields)])
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="more than 10000 characters"):
        assert there_and_back(value).dtype == value.dtype


def test_columns_that_are_the_same_in_arrow_are_refused() -> None:
    """A number becomes text: one of the two could not be named."""
    with pytest.raises(ValueError, match="the columns '1' and 1 are the same in Arrow"):
        there_and_back(pd.DataFrame([[1, 2]], columns=pd.Index(["1", 1], dtype=object)))
    assert there_and_back(pd.DataFrame([[1, 2]], columns=[0, 1])).columns.astype(str).to_list() == ["0", "1"]


def test_bytes_in_another_order_are_written_in_the_order_of_their_numbers() -> None:
    """A memoryview of an array in Fortran's order has the bytes of its copy."""
    array = np.asfortranarray(np.arange(6, dtype="u1").reshape(2, 3))
    assert there_and_back(array.data) == array.tobytes()


def test_a_picture_of_many_pixels_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns of many, and refuses twice as many: that is the limit here, too."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    assert there_and_back(Image.new("1", (10, 11))).size == (10, 11)
    with pytest.raises(ValueError, match="exceeds limit of 120 pixels"):
        there_and_back(Image.new("1", (10, 13)))


def test_a_part_of_a_figure_has_no_codec() -> None:
    """It cannot be saved by itself."""
    with pytest.raises(UsageError, match="no codec for a value of type 'SubFigure'"):
        codec_for("x", Figure().subfigures())


@pytest.mark.parametrize(
    ("value", "keys"), [({1: "a", "1": "b"}, "1 and '1'"), ([{"x": {"null": 1, None: 2}}], "'null' and None")]
)
def test_keys_that_are_the_same_in_json_are_refused(value: Any, keys: str) -> None:
    """One of them would be lost. A number alone becomes text."""
    with pytest.raises(ValueError, match=f"the keys {keys} are the same in JSON"):
        there_and_back(value)
    assert there_and_back({1: {2.5: True}}) == {"1": {"2.5": True}}


def test_tables_come_back_as_frames_of_pandas() -> None:
    """From pandas with the index, from polars and pyarrow without one."""
    indexed = FRAME.set_index("t")
    pd.testing.assert_frame_equal(there_and_back(indexed), indexed)
    pd.testing.assert_frame_equal(there_and_back(FRAME["n"]), FRAME[["n"]])
    plain = pd.DataFrame({"n": [1, 2]})
    for value in (pl.DataFrame({"n": [1, 2]}), pl.LazyFrame({"n": [1, 2]}), pa.table({"n": [1, 2]})):
        pd.testing.assert_frame_equal(there_and_back(value), plain)
    pd.testing.assert_frame_equal(there_and_back(pa.record_batch({"n": [1, 2]})), plain)


def test_pictures_come_back_as_images() -> None:
    """A figure is drawn."""
    image = Image.new("RGBA", (3, 2), (1, 2, 3, 4))
    assert there_and_back(image).tobytes() == image.tobytes()
    assert there_and_back(Figure(figsize=(1, 1))).size == (100, 100)
    file = io.BytesIO()
    image.save(file, format="PNG")
    shown = Shown(data=file.getvalue(), format="png")  # type: ignore[no-untyped-call]
    assert there_and_back(shown).size == (3, 2)


@pytest.mark.parametrize("value", [object(), {1, 2}, print, np, 1j], ids=lambda value: type(value).__name__)
def test_what_no_codec_takes_is_one_line(value: object) -> None:
    """The error says the type, and what can be passed."""
    with pytest.raises(UsageError, match=r"cannot pass x: no codec for a value of type '\w+'; pass text, bytes"):
        codec_for("x", value)


HOSTILE = st.binary() | st.builds(
    bytes.__add__,
    st.sampled_from([b"\x93NUMPY\x01\x00", b"ARROW1\0\0", b"PAR1", b"\x89PNG\r\n\x1a\n", b"[" * 5000, b"\xff\xfe"]),
    st.binary(),
)


@pytest.mark.parametrize("suffix", ["txt", "json", "npy", "arrow", "parquet", "csv", "png"])
@examples(100)
@given(data=HOSTILE)
def test_a_file_of_any_content_is_a_value_or_a_value_error(suffix: str, data: bytes) -> None:
    """Libraries raise many errors about damaged files."""
    codec = codec_of(suffix)
    assert codec is not None
    with contextlib.suppress(ValueError):
        codec.read(io.BytesIO(data))


class Bomb:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def test_nothing_is_unpickled() -> None:
    """Neither an array of objects, nor a pickle in the place of one."""
    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    for data in (file.getvalue(), pickle.dumps(Bomb())):
        with pytest.raises(ValueError, match=r"."):
            codec_of("npy").read(io.BytesIO(data))  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        there_and_back(np.array([Bomb()], dtype=object))


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-1,)", "(2, 3)"])
def test_an_array_is_no_larger_than_its_file(shape: str) -> None:
    """A header that promises more is refused before any memory is taken."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 8
    with pytest.raises(ValueError, match="size"):
        codec_of("npy").read(io.BytesIO(data))  # type: ignore[union-attr]


class Color(str, enum.Enum):  # noqa: UP042 - not a StrEnum, whose `str()` is the value
    """An enum of texts: `str()` of a member is its name."""

    RED = "red"


class Level(int, enum.Enum):
    """An enum of numbers."""

    HIGH = 7


@pytest.mark.parametrize(
    ("name", "value", "variable"),
    [
        ("a", "text", "a=text"),
        ("n", 3, "n=3"),
        ("f", 0.5, "f=0.5"),
        ("t", True, None),
        ("d", {"k": 1}, None),
        ("long", "x" * 4097, None),
        ("nul", "a\0b", None),
        ("PATH", "/x", None),
        ("HOME", "/x", None),
        ("IFS", "x", None),
        ("LD_PRELOAD", "/x.so", None),
        ("é", "x", None),
        pytest.param("big", 10**5000, None, id="big"),
        ("text", Color.RED, "text=red"),
        ("number", Level.HIGH, "number=7"),
        ("integer", np.int64(5), "integer=5"),
    ],
)
def test_short_texts_and_numbers_are_variables_too(name: str, value: Any, variable: str | None) -> None:
    """But for names that change how programs are found and run, and for what a variable cannot hold."""
    assert Input(name, value, codec_for(name, value)).variable == variable


class Upper:
    """Another package's codec."""

    suffix = "upper"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value.isupper()

    def write(self, value: Any, file: Any) -> None:
        file.write(value.encode())

    def read(self, file: Any) -> Any:
        return file.read().decode()


UPPER = Upper()


def test_other_packages_register_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come before the built-in ones; what is no codec is one line."""
    point = importlib.metadata.EntryPoint("upper", f"{__name__}:UPPER", registry.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [point])
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(UPPER=UPPER))
    codecs.cache_clear()
    try:
        assert codec_for("x", "ABC") is UPPER
        assert isinstance(UPPER, Codec)
        assert codec_for("x", "abc").suffix == "txt"
        broken = importlib.metadata.EntryPoint("broken", "no_such_module:x", registry.GROUP)
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [broken])
        codecs.cache_clear()
        with pytest.raises(UsageError, match="cannot load the codec 'broken'"):
            codecs()
    finally:
        codecs.cache_clear()


def arrow_file(values: Any, compression: str | None = None) -> bytes:
    """An Arrow file with one column."""
    file = io.BytesIO()
    table = pa.table({"x": values})
    with pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write(table)
    return file.getvalue()


def parquet_file(values: Any, **options: Any) -> bytes:
    """A Parquet file with one column."""
    file = io.BytesIO()
    parquet.write_table(pa.table({"x": values}), file, **options)
    return file.getvalue()


FEW = pa.array(["x" * 10_000])
"""A text that all rows have together."""

RUN = pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30], pa.int32()), pa.array(["x"]))
SAME = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5_000, "i4")), FEW)


@pytest.mark.parametrize(
    ("suffix", "file"),
    [
        ("arrow", arrow_file(pa.nulls(1 << 30))),
        ("arrow", arrow_file(pa.FixedSizeBinaryArray.from_buffers(pa.binary(0), 1 << 30, [None, pa.py_buffer(b"")]))),
        ("arrow", arrow_file(RUN)),
        ("arrow", arrow_file(np.zeros(1 << 20), "zstd")),
        ("arrow", arrow_file(np.zeros(1 << 20), "lz4")),
        ("arrow", arrow_file(SAME.cast(pa.string()), "zstd")),
        ("parquet", parquet_file(np.zeros(1 << 20, "i4"))),
        ("parquet", parquet_file(np.zeros(1 << 20), data_page_version="2.0", compression="zstd", use_dictionary=False)),
        ("parquet", parquet_file(SAME)),
        ("parquet", parquet_file(pa.array([["x" * 10_000]] * 5_000))),
        ("parquet", parquet_file(pa.array([{"y": "x" * 10_000}] * 5_000))),
        ("parquet", parquet_file(SAME.cast(pa.string()), use_dictionary=False, compression="zstd")),
        ("parquet", parquet_file(SAME, use_dictionary=False, column_encoding={"x": "DELTA_BYTE_ARRAY"})),
    ],
    ids=(
        "nulls,empty values,run,zstd,lz4,compressed texts,runs,compressed pages,dictionary,in lists,in structs,"
        "compressed texts in pages,prefixes"
    ).split(","),
)
def test_a_table_of_few_bytes_that_would_take_much_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch, suffix: str, file: bytes
) -> None:
    """Before its values are made: they may take 1 GiB, here 1 MiB, or 16 times the size of the file."""
    monkeypatch.setattr(arrow_sizes, "LEAST", 1 << 20)
    codec = codec_of(suffix)
    assert codec is not None
    with pytest.raises(ValueError, match=r"bytes of memory|DELTA_BYTE_ARRAY"):
        codec.read(io.BytesIO(file))


def test_all_pages_of_a_parquet_file_are_counted() -> None:
    """By their headers, which have the sizes that the reader uses; those in the footer need not be true."""
    file = io.BytesIO(parquet_file(np.zeros(1 << 20), use_dictionary=False, compression="zstd"))
    metadata = parquet.read_metadata(file)
    pages = list(parquet_sizes._pages(file))
    assert len(pages) > 1
    assert sum(page.size for page in pages) >= 8 << 20
    assert sum(page.values for page in pages) == metadata.num_rows


@examples(200)
@given(st.sampled_from(["arrow", "parquet"]), st.data())
def test_a_damaged_table_is_a_value_error(suffix: str, data: st.DataObject) -> None:
    """Bytes of a valid file are changed: it is read, or `ValueError` is raised, and the process lives on."""
    file = bytearray(arrow_file(SAME, "zstd") if suffix == "arrow" else parquet_file(pa.array([["a", "b"]])))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    codec = codec_of(suffix)
    assert codec is not None
    with contextlib.suppress(ValueError):
        codec.read(io.BytesIO(bytes(file)))


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_tables_with_columns_of_all_kinds_are_read(compression: str | None) -> None:
    """Compressed or not, as Arrow and as Parquet: none of them is refused for its size."""
    columns = {
        "text": ["a", None],
        "view": pa.array(["a" * 20, "b"], pa.string_view()),
        "list": [[1], [2, 3]],
        "fixed": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "map": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
        "struct": [{"a": 1, "b": ["x"]}, None],
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "flag": [True, None],
        "time": pa.array([1, None], pa.timestamp("ns")),
        "none": pa.nulls(2),
    }
    table = pa.table(columns)
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write(table)
    stored = io.BytesIO()
    parquet.write_table(table.drop_columns(["view"]), stored, compression=compression or "none")
    for suffix, made in (("arrow", file), ("parquet", stored)):
        codec = codec_of(suffix)
        assert codec is not None
        made.seek(0)
        assert codec.read(made)["list"].map(list).to_list() == [[1], [2, 3]]
