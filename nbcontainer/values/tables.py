"""The codecs of tables: Arrow files, which a container maps into memory without a copy; Parquet and CSV are read."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from nbcontainer.values import arrow_sizes, parquet_sizes
from nbcontainer.values.codec import MissingPackage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def _is(value: object, module: str, *names: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and any(isinstance(value, getattr(loaded, name, ())) for name in names)


def _pyarrow(module: str = "pyarrow") -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingPackage("pyarrow", "arrow") from None


def _frame(table: Any, limit: int) -> Any:
    """Return a table of pyarrow as the notebook has tables: of pandas if it is installed, else as it is.

    Raises `ValueError` if it is not valid, or takes more than `limit` bytes.
    """
    table.validate(full=True)
    arrow_sizes.check_table(table, limit)
    try:
        importlib.import_module("pandas")
    except ImportError:
        return table
    return table.to_pandas()


class ArrowCodec:
    """Tables of pandas, polars and pyarrow as an uncompressed Arrow file; read as a `pandas.DataFrame`.

    A table of polars needs no pyarrow. Without pandas, it is read as a `pyarrow.Table`.
    """

    suffix = "arrow"

    def accepts(self, value: object) -> bool:
        """Return whether the value is a table, or a column, of these packages."""
        return (
            _is(value, "pandas", "DataFrame", "Series")
            or _is(value, "polars", "DataFrame", "LazyFrame", "Series")
            or _is(value, "pyarrow", "Table", "RecordBatch")
        )

    def write(self, value: Any, file: BinaryIO) -> None:
        """Write the table. Raises `ValueError` or `TypeError` for a column that Arrow cannot hold."""
        if _is(value, "polars", "LazyFrame"):
            value = value.collect()
        if _is(value, "polars", "Series"):
            value = value.to_frame()
        if _is(value, "polars", "DataFrame"):
            value.write_ipc(file, compression="uncompressed")
            return
        arrow, ipc = _pyarrow(), _pyarrow("pyarrow.ipc")
        try:
            table = _arrow_table(value, arrow)
            with _sink(file, arrow) as sink, ipc.new_file(sink, table.schema) as writer:
                writer.write(table)
        except arrow.ArrowException as error:
            raise ValueError(str(error).partition("\n")[0]) from None

    def read(self, file: BinaryIO) -> Any:
        """Return the table. Raises `ValueError`."""
        arrow, ipc = _pyarrow(), _pyarrow("pyarrow.ipc")
        try:
            limit = arrow_sizes.most(file)
            arrow_sizes.check_file(file, limit)
            return _frame(ipc.open_file(arrow.PythonFile(file, "r")).read_all(), limit)
        except (arrow.ArrowException, ArithmeticError, LookupError, OSError, TypeError) as error:
            raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from None


@contextlib.contextmanager
def _sink(file: BinaryIO, arrow: Any) -> Iterator[Any]:
    """Yield an output stream of pyarrow: without a copy in Python if the file has a descriptor."""
    try:
        fd = file.fileno()
    except (OSError, AttributeError):
        yield arrow.PythonFile(file, "w")
        return
    with arrow.OSFile(f"/proc/self/fd/{fd}", "w") as sink:
        yield sink


def _arrow_table(value: Any, arrow: Any) -> Any:
    if _is(value, "pandas", "Series"):
        value = value.to_frame(value.name if value.name is not None else "value")
    if _is(value, "pandas", "DataFrame"):
        names: dict[str, Any] = {}
        for name in value.columns:
            if str(name) in names:
                raise ValueError(f"the columns {names[str(name)]!r} and {name!r} are the same in Arrow")
            names[str(name)] = name
        return arrow.Table.from_pandas(value)
    if isinstance(value, arrow.RecordBatch):
        return arrow.Table.from_batches([value])
    return value


class ParquetCodec:
    """Parquet files of a cell; read only."""

    suffix = "parquet"

    def accepts(self, value: object) -> bool:
        """Return False: tables are passed in as Arrow files."""
        return False

    def write(self, value: Any, file: BinaryIO) -> None:
        """Raise `TypeError`."""
        raise TypeError("Parquet files are only read")

    def read(self, file: BinaryIO) -> Any:
        """Return the table. Raises `ValueError`."""
        arrow, parquet = _pyarrow(), _pyarrow("pyarrow.parquet")
        try:
            limit = arrow_sizes.most(file)
            if parquet_sizes.check_pages(file, limit):
                texts = parquet_sizes.texts_of(parquet.ParquetFile(arrow.PythonFile(file, "r")).schema)
                source = parquet.ParquetFile(arrow.PythonFile(file, "r"), read_dictionary=texts)
                parquet_sizes.check_texts(source, limit)
                file.seek(0)
            return _frame(parquet.read_table(arrow.PythonFile(file, "r")), limit)
        except (arrow.ArrowException, ArithmeticError, LookupError, OSError, TypeError) as error:
            raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from None


class CsvCodec:
    """CSV files of a cell, read only: as a `pandas.DataFrame`, with names in the first line; as text without pandas."""

    suffix = "csv"

    def accepts(self, value: object) -> bool:
        """Return False: tables are passed in as Arrow files."""
        return False

    def write(self, value: Any, file: BinaryIO) -> None:
        """Raise `TypeError`."""
        raise TypeError("CSV files are only read")

    def read(self, file: BinaryIO) -> Any:
        """Return the table. Raises `ValueError`."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            return file.read().decode()
        return pandas.read_csv(file)
