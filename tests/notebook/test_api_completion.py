"""`nbcontainer.<Tab>` in IPython."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import nbcontainer


def completions(text: str, *, use_jedi: bool = True) -> set[str]:
    """What a frontend gets for a cell with this text (IPCompleter.completions)."""
    shell: Any = InteractiveShell()  # type: ignore[no-untyped-call]
    shell.Completer.use_jedi = use_jedi
    shell.user_ns["nbcontainer"] = nbcontainer
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    return {one.text.rpartition(".")[2] for one in found}


@pytest.mark.parametrize("use_jedi", [True, False])
def test_tab_lists_the_api(use_jedi: bool) -> None:
    """Completion of `nbcontainer.` lists every public name, with and without jedi, and no imports of the module."""
    names = completions("nbcontainer.", use_jedi=use_jedi)
    assert set(nbcontainer.__all__) - {"__version__"} <= names
    assert not names & {"Any", "TYPE_CHECKING", "annotations"}


def test_tab_lists_the_options_of_run() -> None:
    """Completion in the arguments of `run` lists its options."""
    found = completions("nbcontainer.run('busybox', mem")
    assert {"memory=", "memory_swap="} <= found
