"""The codec of NumPy arrays."""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO

from nbcontainer.values.codec import MissingPackage

_HEADER_LIMIT = 10_000  # characters that NumPy reads (max_header_size)


class NpyCodec:
    """NumPy's own format (numpy.lib.format), without pickles: arrays of objects are refused both ways."""

    suffix = "npy"

    def accepts(self, value: object) -> bool:
        """Return whether the value is an array or a scalar of NumPy."""
        numpy = sys.modules.get("numpy")
        return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)

    def write(self, value: Any, file: BinaryIO) -> None:
        """Write the array. Raises `ValueError` for an array of objects, and for one with more than a file can hold.

        That is a mask, a unit or the like of another package, and a type whose description NumPy would not read.
        """
        import numpy as np

        kind = type(value)
        if isinstance(value, np.ma.MaskedArray):
            raise ValueError("the mask of the array would be lost")
        if isinstance(value, np.ndarray) and kind.__module__.partition(".")[0] != "numpy":
            raise ValueError(f"what {kind.__module__}.{kind.__qualname__} adds to the array would be lost")
        if value.dtype.names and _header_size(value) > _HEADER_LIMIT:
            raise ValueError(f"the description of its type has more than {_HEADER_LIMIT} characters")
        np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)

    def read(self, file: BinaryIO) -> Any:
        """Return the array; a scalar if it has no dimension, as `write` leaves one.

        Raises `ValueError`, also if the file is shorter than its header says.
        """
        try:
            import numpy as np
        except ImportError:
            raise MissingPackage("numpy", "arrow") from None
        try:
            _check_size(file)
            found = np.lib.format.read_array(file, allow_pickle=False)
            return found[()] if found.ndim == 0 else found
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # NumPy parses the header as a Python literal: it may raise anything
            raise ValueError(f"{type(error).__name__}: {error}") from None


def _header_size(value: Any) -> int:
    import numpy as np

    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, np.lib.format.header_data_from_array_1_0(np.asanyarray(value)))
    return len(header.getvalue())


def _check_size(file: BinaryIO) -> None:
    """Raise `ValueError` if the header asks for more memory than the file has bytes; rewind the file."""
    import numpy as np

    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it is an array of Python objects, which would be unpickled")
    expected = dtype.itemsize
    for length in shape:
        expected *= length
    start = file.tell()
    if min(shape, default=0) < 0 or expected != file.seek(0, 2) - start:
        raise ValueError("its size is not the one in its header")
    file.seek(0)
