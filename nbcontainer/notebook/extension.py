"""Load the magics into IPython, and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traitlets import TraitError

from nbcontainer.errors import UsageError
from nbcontainer.notebook.magics import ContainerMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load(shell: InteractiveShell) -> None:
    """Register the magics, and start the launcher in the background. Loading twice changes nothing.

    Raises `UsageError` for a configuration with a wrong value.
    """
    if _loaded(shell) is None:
        magics = _configured(shell)
        shell.register_magics(magics)
        shell.events.register("pre_run_cell", magics.before_cell)
        shell.events.register("post_run_cell", magics.after_cell)
        if (completer := shell.Completer) is not None:
            completer.custom_matchers.append(magics.matcher)
        magics.start()


def _configured(shell: InteractiveShell) -> ContainerMagics:
    try:
        return ContainerMagics(shell=shell)
    except TraitError as error:
        _forget(shell)  # IPython added it before it read the configuration
        hint = "correct it in IPython's configuration, such as ipython_config.py"
        raise UsageError(f"cannot load the magics: {error}", hint=hint) from None


def _forget(shell: InteractiveShell) -> None:
    """Remove the magics from what `%config` sets."""
    shell.configurables[:] = [known for known in shell.configurables if not isinstance(known, ContainerMagics)]


def unload(shell: InteractiveShell) -> None:
    """Remove the magics, and end every container of this notebook."""
    magics = _loaded(shell)
    if magics is None:
        return
    for kind in ("line", "cell"):
        known = shell.magics_manager.magics[kind]
        for name in [name for name, function in known.items() if getattr(function, "__self__", None) is magics]:
            del known[name]
    shell.magics_manager.registry.pop(type(magics).__name__, None)
    _forget(shell)
    shell.events.unregister("pre_run_cell", magics.before_cell)
    shell.events.unregister("post_run_cell", magics.after_cell)
    if (completer := shell.Completer) is not None and magics.matcher in completer.custom_matchers:
        completer.custom_matchers.remove(magics.matcher)
    magics.close()


def _loaded(shell: InteractiveShell) -> ContainerMagics | None:
    found = shell.magics_manager.registry.get(ContainerMagics.__name__)
    return found if isinstance(found, ContainerMagics) else None
