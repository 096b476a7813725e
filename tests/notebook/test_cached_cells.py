"""`--cache` in a notebook: displays, the trait, and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.slow

CLOCK = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
    """The module's kernel, without the trait."""
    yield shared_kernel
    shared_kernel.run("%config ContainerMagics.cache = ''")


def test_displays_are_replayed_in_their_place(kernel: Kernel) -> None:
    """Between the lines before and after, and through the same checks as the first time."""
    code = (
        "%%container busybox --cache -h displays\n"
        f"{CLOCK}; echo '<b onclick=\"x()\">bold</b>' > /dev/shm/a.html; display /dev/shm/a.html; echo after"
    )
    first, second = kernel.run(code).good(), kernel.run(code).good()
    assert second.stdout == first.stdout
    assert second.stderr.startswith("nbcontainer: cached: computed at ")
    shown = [[one["data"] for one in ran.messages if one["type"] == "display_data"] for ran in (first, second)]
    assert shown[0] == shown[1]
    assert "bold" in str(shown[1])
    kinds = [one["type"] for one in second.messages if one["type"] in ("stream", "display_data")]
    assert kinds.index("display_data") not in (0, len(kinds) - 1)


def test_the_trait_is_for_the_whole_notebook(kernel: Kernel) -> None:
    """An option of a cell comes first. A cell in a live container says once that it is not cached."""
    code = f"%%container busybox -h trait\n{CLOCK}"
    kernel.run("%config ContainerMagics.cache = True")
    first = kernel.run(code).good().stdout
    assert kernel.run(code).good().stdout == first
    assert kernel.run(code.replace("busybox", "busybox --cache=off")).good().stdout != first
    live = "%%container busybox --name cached-live --live\ntrue"
    assert "not cached: it runs in a live container" in kernel.run(live).good().stderr
    assert "not cached" not in kernel.run(live).good().stderr
    kernel.run("%container rm -f cached-live").good()
    kernel.run("%config ContainerMagics.cache = ''")
    assert kernel.run(code).good().stdout != first


def test_values_of_the_notebook_are_in_the_key(notebook: Notebook) -> None:
    """Another value of `--in` runs the cell; the same one does not, whatever its name in the notebook is."""
    notebook["x"] = 1
    code = f"%%container busybox --cache -h values --in x\n{CLOCK}; cat /in/x.json"
    first = notebook.good(code)
    assert notebook.run(code).stdout == first
    notebook["x"] = 2
    assert notebook.run(code).stdout != first
    notebook["x"] = 1
    assert notebook.run(code).stdout == first
