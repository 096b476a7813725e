"""Runs inside a container: calls the function in /in/function.bin, and writes its value to /out.

This file is sent as text. It runs alone, with any Python from 3.6 on, and imports nothing of this package. Its argument
is the Python version that pickled the function.
"""

import json
import pickle
import sys
from typing import Any

OUT = "/out/value."


def call(version: str) -> None:
    """Call the function with its argument, and write what it returns."""
    here = "%d.%d" % sys.version_info[:2]
    if here != version:
        problem = "the image's Python %s cannot run a function of Python %s" % (here, version)
        sys.exit("%s: use an image with Python %s" % (problem, version))
    sys.path.insert(0, "/in/cloudpickle.bin")
    try:
        function, argument = load("/in/function.bin"), load("/in/argument.bin")
    except ImportError as error:
        sys.exit("the function needs a module that the image lacks: %s" % error)
    sys.path.remove("/in/cloudpickle.bin")
    save(function(argument))


def load(path: str) -> Any:
    """Return what the notebook pickled."""
    with open(path, "rb") as file:
        return pickle.load(file)


def save(value: Any) -> None:
    """Write a value in the form that its type has in docs/values.md."""
    package = type(value).__module__.partition(".")[0]
    if isinstance(value, str):
        write("txt", value.encode())
    elif isinstance(value, (bytes, bytearray, memoryview)):
        write("bin", bytes(value))
    elif package in WRITERS:
        WRITERS[package](value)
    else:
        try:
            write("json", json.dumps(value).encode())
        except (TypeError, ValueError) as error:
            hint = "return text, bytes, what JSON can hold, an array, a table or a figure"
            sys.exit("cannot return a value of type '%s': %s; %s" % (type(value).__name__, error, hint))


def write(suffix: str, data: bytes) -> None:
    """Write bytes to /out."""
    with open(OUT + suffix, "wb") as file:
        file.write(data)


def save_array(value: Any) -> None:
    """Write an array or a scalar of NumPy."""
    import numpy as np

    with open(OUT + "npy", "wb") as file:
        np.save(file, value, allow_pickle=False)


def save_frame(value: Any) -> None:
    """Write a table of pandas, as CSV without pyarrow; a series becomes a table."""
    frame = value.to_frame() if hasattr(value, "to_frame") else value
    try:
        import pyarrow
    except ImportError:
        frame.to_csv(OUT + "csv", index=False)
    else:
        save_table(pyarrow.Table.from_pandas(frame))


def save_table(value: Any) -> None:
    """Write a table of pyarrow."""
    import pyarrow

    with pyarrow.OSFile(OUT + "arrow", "wb") as file, pyarrow.ipc.new_file(file, value.schema) as writer:
        writer.write_table(value)


WRITERS: "Any" = {
    "numpy": save_array,
    "pandas": save_frame,
    "pyarrow": save_table,
    "polars": lambda value: value.write_ipc(OUT + "arrow", compression="uncompressed"),
    "PIL": lambda value: value.save(OUT + "png"),
    "matplotlib": lambda value: value.savefig(OUT + "png"),
}

call(sys.argv[1])
