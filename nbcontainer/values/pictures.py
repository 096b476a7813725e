"""The codec of figures and images."""

from __future__ import annotations

import sys
import warnings
from typing import Any, BinaryIO


class PngCodec:
    """Figures of Matplotlib and images of Pillow as PNG.

    A PNG file is read as a `PIL.Image.Image`, or without Pillow as an `IPython.display.Image`.
    """

    suffix = "png"

    def accepts(self, value: object) -> bool:
        """Return whether the value is a figure or an image."""
        figures, images = sys.modules.get("matplotlib.figure"), sys.modules.get("PIL.Image")
        if figures is not None and isinstance(value, figures.Figure):
            return True
        if images is not None and isinstance(value, images.Image):
            return True
        return _png_of_ipython(value) is not None

    def write(self, value: Any, file: BinaryIO) -> None:
        """Write the picture. Raises `ValueError` for an image whose mode PNG does not have."""
        if (data := _png_of_ipython(value)) is not None:
            file.write(data)
        elif hasattr(value, "savefig"):
            value.savefig(file, format="png")
        else:
            try:
                value.save(file, format="PNG")
            except OSError as error:
                raise ValueError(str(error)) from None

    def read(self, file: BinaryIO) -> Any:
        """Return the picture. Raises `ValueError` for a damaged one, and for one with too many pixels."""
        try:
            from PIL import Image
        except ImportError:
            from IPython.display import Image as Shown

            data = file.read()
            if not data.startswith(b"\x89PNG\r\n\x1a\n"):
                raise ValueError("it is not a PNG file") from None
            return Shown(data=data, format="png")  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many are an error
            try:
                image = Image.open(file, formats=["PNG"])
                image.load()
            except (Image.DecompressionBombError, SyntaxError, OSError) as error:
                raise ValueError(str(error)) from None
        return image


def _png_of_ipython(value: object) -> bytes | None:
    """Return the data of an `IPython.display.Image` in PNG, None for anything else."""
    display = sys.modules.get("IPython.core.display") or sys.modules.get("IPython.display")
    kind = getattr(display, "Image", None)
    if kind is None or not isinstance(value, kind) or getattr(value, "format", "") != "png":
        return None
    data = getattr(value, "data", None)
    return data if isinstance(data, bytes) else None
