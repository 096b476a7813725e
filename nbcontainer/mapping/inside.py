"""Runs inside a container: calls the function in /in/function.bin, and writes its value to /out.

This file is sent as text. It runs alone, with any Python from 3.6 on, and imports nothing of this package. Its argument
is the Python version that pickled the function.
"""

import json
import pickle
import sys
from typing import Any

OUT = "/out/value."

FORMS = "return text, bytes, what JSON can hold, an array, a table or a figure"
LESS = "return less, or write it to a file and name that in `files`"


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
        name = (error.name or "the_module").partition(".")[0]
        own = "if it is a file of yours, call cloudpickle.register_pickle_by_value(%s) before `map`" % name
        sys.exit("the function needs a module that the image lacks: %s; use an image that has it; %s" % (error, own))
    sys.path.remove("/in/cloudpickle.bin")
    save(function(argument))


def load(path: str) -> Any:
    """Return what the notebook pickled."""
    with open(path, "rb") as file:
        return pickle.load(file)


class Refused(Exception):
    """A value that has no form in /out, with what to return in place of it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def save(value: Any) -> None:
    """Write a value in the form that its type has in docs/values.md. Exit with one line if that is not possible."""
    try:
        save_any(value)
    except Exception as error:  # what a package raises about its own values is not known here
        detail = str(error).partition("\n")[0] or type(error).__name__
        full = isinstance(error, MemoryError) or getattr(error, "errno", None) is not None
        hint = getattr(error, "hint", LESS if full else FORMS)
        sys.exit("cannot return a value of type '%s': %s; %s" % (type(value).__name__, detail, hint))


def save_any(value: Any) -> None:
    """Write a value by its type."""
    package = type(value).__module__.partition(".")[0]
    if isinstance(value, str):
        write("txt", value.encode())
    elif isinstance(value, (bytes, bytearray, memoryview)):
        write("bin", bytes(value))
    elif package in WRITERS:
        WRITERS[package](value)
    elif type(value).__name__ == "coroutine":  # the module inspect takes long to import
        value.close()  # else Python warns later that it was not awaited
        raise Refused("it was not awaited", "call asyncio.run() in the function")
    else:
        check_keys(value)
        write("json", json.dumps(value).encode())


def check_keys(value: Any) -> None:
    """Refuse a key that JSON would turn into text: it would come back as another one, or replace one."""
    kinds = (dict, list, tuple)
    waiting = [value]
    seen = set()  # type: set[int]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:  # a circle, which json.dumps refuses
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            for key in one:
                if not isinstance(key, str):
                    problem = "the key %.40r of type '%s' would become text" % (key, type(key).__name__)
                    raise Refused(problem, "return list(value.items()), or use text as keys")
        if isinstance(one, kinds):
            below = one.values() if isinstance(one, dict) else one
            waiting.extend(part for part in below if isinstance(part, kinds))


def write(suffix: str, data: bytes) -> None:
    """Write bytes to /out."""
    with open(OUT + suffix, "wb") as file:
        file.write(data)


def save_array(value: Any) -> None:
    """Write an array or a scalar of NumPy."""
    import numpy as np

    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError("it is neither an array nor a number of NumPy")
    if isinstance(value, np.ma.MaskedArray):
        raise Refused("the mask would be lost", "return value.filled(), or value.tolist(), which has None there")
    if value.dtype.hasobject:
        raise Refused("an array of Python objects is not sent", "return value.tolist(), or an array of numbers or text")
    with open(OUT + "npy", "wb") as file:
        np.save(file, value, allow_pickle=False)


def save_frame(value: Any) -> None:
    """Write a table of pandas, as CSV without pyarrow; a series becomes a table."""
    import pandas as pd

    frame = value.to_frame() if isinstance(value, (pd.Series, pd.Index)) else value
    if not isinstance(frame, pd.DataFrame):
        raise TypeError("it is not a table")
    names = set()  # type: set[str]
    for name in map(str, frame.columns):
        if name in names:
            raise Refused("several columns have the name '%s'" % name, "give each column a name of its own")
        names.add(name)
    try:
        import pyarrow
    except ImportError:
        save_csv(frame)
    else:
        save_table(pyarrow.Table.from_pandas(frame))


def save_csv(frame: Any) -> None:
    """Write a table of pandas as CSV, with its index as columns if it has more than numbers of rows."""
    if frame.columns.nlevels > 1:
        raise Refused("CSV has no columns of several levels", "use an image with pyarrow")
    if list(frame.index.names) != [None] or list(frame.index) != list(range(len(frame))):
        frame = frame.reset_index()
    frame.to_csv(OUT + "csv", index=False)


def save_table(value: Any) -> None:
    """Write a table of pyarrow."""
    import pyarrow

    if not isinstance(value, (pyarrow.Table, pyarrow.RecordBatch)):
        raise TypeError("it is not a table")
    with pyarrow.OSFile(OUT + "arrow", "wb") as file, pyarrow.ipc.new_file(file, value.schema) as writer:
        writer.write(value)


def save_polars(value: Any) -> None:
    """Write a table of polars; a series becomes a table."""
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        value = value.collect()
    elif isinstance(value, pl.Series):
        value = value.to_frame()
    if not isinstance(value, pl.DataFrame):
        raise TypeError("it is not a table")
    value.write_ipc(OUT + "arrow", compression="uncompressed")


def save_picture(value: Any) -> None:
    """Write an image of Pillow."""
    from PIL import Image

    if not isinstance(value, Image.Image):
        raise TypeError("it is not an image")
    value.save(OUT + "png")


def save_figure(value: Any) -> None:
    """Write a figure of Matplotlib."""
    if not hasattr(value, "savefig"):
        raise TypeError("it is not a figure")
    value.savefig(OUT + "png")


WRITERS: "Any" = {
    "numpy": save_array,
    "pandas": save_frame,
    "pyarrow": save_table,
    "polars": save_polars,
    "PIL": save_picture,
    "matplotlib": save_figure,
}

if __name__ == "__main__":
    call(sys.argv[1])
