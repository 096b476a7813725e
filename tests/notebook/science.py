"""Notebooks with a DataFrame and a plot, for kernels in containers without a network: a shell's, and Python's own."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

from nbcontainer.notebook.kernel.specs import kernelspec
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

KERNELS = ("shell-in-host", "python-in-host")

_FRAME = 'pd.DataFrame({"day": ["Mon", "Tue"], "sky": ["sunny", "grey"], "rain": [0, 15]})'

_PYTHON = [
    "import os\nprint('interfaces:', *os.listdir('/sys/class/net'))",
    f"import pandas as pd\nframe = {_FRAME}\nframe",
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.bar(frame.day, frame.rain);",
]
_SHELL = [
    "echo interfaces: $(ls /sys/class/net)",
    f"""python - <<'END' | display -t html
import pandas as pd
print({_FRAME}.to_html())
END""",
    """MPLBACKEND=agg python -c '
import matplotlib.pyplot as plt
plt.bar(["Mon", "Tue"], [0, 15])
plt.savefig("/tmp/rain.png")
'
display /tmp/rain.png""",
]


def require_packages() -> None:
    """Skips the test where this Python has nothing to make a table or a plot with."""
    for name in ("pandas", "matplotlib"):
        require(name, available=importlib.util.find_spec(name) is not None)


def spec(kernel: str, store: Path) -> dict[str, Any]:
    """The kernelspec of one of KERNELS."""
    if kernel == "shell-in-host":
        return kernelspec.document(["host"], kernel, store=str(store))
    label = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    return kernelspec.document_labelled(json.dumps(label), ["host"], kernel, notebooks="", store=str(store))


def notebook(kernel: str, codes: list[str] | None = None) -> dict[str, Any]:
    """A notebook for one of KERNELS (nbformat 4.5), with a table and a plot, or with these cells."""
    codes = codes or (_SHELL if kernel == "shell-in-host" else _PYTHON)
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"cell{n}", "source": code, "metadata": {}, "outputs": [], "execution_count": None}
        for n, code in enumerate(codes)
    ]
    language = "bash" if kernel == "shell-in-host" else "python"
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": language}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write_all(folder: Path, kernels: Path, store: Path) -> None:
    """Writes every notebook to `folder`, and every kernelspec below `kernels`."""
    for kernel in KERNELS:
        (folder / f"{kernel}.ipynb").write_text(json.dumps(notebook(kernel)))
        (kernels / kernel).mkdir(parents=True)
        (kernels / kernel / "kernel.json").write_text(json.dumps(spec(kernel, store)))
