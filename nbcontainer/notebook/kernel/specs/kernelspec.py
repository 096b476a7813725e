"""Kernelspecs: Jupyter finds this kernel by them. There is one for each image that notebooks run in."""

from __future__ import annotations

import enum
import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from traitlets import TraitError

from nbcontainer.errors import UsageError
from nbcontainer.notebook.kernel.specs import whole_directories
from nbcontainer.notebook.kernel.specs.label import INSIDE, ShellLabel, read_label
from nbcontainer.notebook.kernel.specs.label import LABEL as LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_client.kernelspec import KernelSpec

MODULE = "nbcontainer.notebook.kernel"
PROVISIONER = "nbcontainer"
"""The entry point's name (`nbcontainer.notebook.provisioner`)."""


class Notebooks(enum.StrEnum):
    """How a kernel's container shows the directory of the notebook: the values of `--notebooks`."""

    RW = "rw"
    RO = "ro"
    NONE = "none"


NOTEBOOKS = tuple(Notebooks)

_NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]*")
"""No name begins with a dot: `.` and `..` have other kernels in them, and hidden directories are unfinished ones."""

_SPEC = "kernel.json"
_RUN = "--ContainerKernel.run="
_SHELL = "--ContainerKernel.shell_name="
_SHOW = "--ContainerKernel.notebooks="


@dataclass(frozen=True)
class Installed:
    """An installed kernelspec: its name, its title in a launcher, its container's arguments, and its directory."""

    name: str
    display_name: str
    run: str
    path: Path


def name_for(image: str) -> str:
    """Return a name for the kernel of an image: `nbcontainer-debian-12` for `debian:12`."""
    stem = re.sub(r"[^a-z0-9.]+", "-", image.rpartition("/")[2].lower().partition(".tar")[0]).strip("-.")
    return f"nbcontainer-{stem}" if stem else "nbcontainer"


def check_name(name: str) -> str:
    """Return `name` if it is a valid name (jupyter-client.readthedocs.io, "Kernel specs"). Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        hint = "use a-z, 0-9, '-', '_' and '.', and no dot at the start"
        raise UsageError(f"invalid kernel name {name!r}", hint=hint)
    return name


def document(
    run: Sequence[str], display_name: str, *, shell: str = "", store: str = "", notebooks: str = ""
) -> dict[str, Any]:
    """Return kernel.json for a kernel in the container of `%container run` with the arguments `run`.

    `notebooks` is a value of `--notebooks`; empty for none.
    """
    argv = [sys.executable, "-m", MODULE, "-f", "{connection_file}"]
    if notebooks:
        argv.append(_SHOW + notebooks)
    argv.append(_RUN + shlex.join(run))
    if shell:
        argv.append(_SHELL + shell)
    return {
        "argv": argv,
        "display_name": display_name,
        "language": "bash",
        # Interrupts come by the control channel, while a cell blocks the shell channel.
        "interrupt_mode": "message",
        "env": {"NBCONTAINER_HOME": store} if store else {},
        "metadata": {"debugger": False},
    }


def document_inside(kernel: str, run: Sequence[str], display_name: str, *, notebooks: str = "") -> dict[str, Any]:
    """Return kernel.json for the installed kernel of that name, in a container of `%container run` with `run`.

    Only its interpreter, which is the image's, its title and its provisioner change. `notebooks` is a value of
    `--notebooks`. Raises `UsageError`.
    """
    spec: dict[str, Any] = _find(kernel).to_dict()
    program = Path(spec["argv"][0]).name if spec["argv"] else ""
    if program.startswith("python"):
        program = "python3"  # an image has that name for any
    spec["argv"] = [program, *spec["argv"][1:]]
    spec["display_name"] = display_name
    spec["metadata"] = {**spec["metadata"], "kernel_provisioner": _provisioner(run, notebooks)}
    return spec


LOGOS = str(Path(__file__).parent / "logos")
"""The directory (host) of the logos of this package's own kernels."""


def resources(kernel: str) -> str:
    """Return the directory (host) of the installed kernel of that name, which has its logos. Raises `UsageError`."""
    return str(_find(kernel).resource_dir)


def _find(kernel: str) -> KernelSpec:
    try:
        found = KernelSpecManager().get_kernel_spec(kernel)
        if not all(isinstance(argument, str) for argument in found.argv):
            raise TypeError("argv")
        return found
    except (NoSuchKernel, ValueError):
        hint = "list kernels with `jupyter kernelspec list`"
        raise UsageError(f"no such kernel: '{kernel}'", hint=hint) from None
    except (TraitError, TypeError, AttributeError, RecursionError, OSError):
        hint = "install that kernel again"
        raise UsageError(f"the kernelspec of '{kernel}' is damaged", hint=hint) from None


def _provisioner(run: Sequence[str], notebooks: str) -> dict[str, Any]:
    return {"provisioner_name": PROVISIONER, "config": {"run": shlex.join(run), "notebooks": notebooks}}


def provisioned(spec: dict[str, Any]) -> bool:
    """Return whether the provisioner launches the kernel, which then is not this package's own."""
    return bool(spec.get("metadata", {}).get("kernel_provisioner", {}).get("provisioner_name") == PROVISIONER)


def label(spec: dict[str, Any]) -> str:
    """Return the label that describes a kernel in an image; it has no facts about this machine."""
    if provisioned(spec):
        return json.dumps({key: spec[key] for key in INSIDE if key in spec}, sort_keys=True)
    shell = next((word.removeprefix(_SHELL) for word in spec["argv"] if word.startswith(_SHELL)), "")
    return json.dumps({"shell": shell})


def document_labelled(text: str, run: Sequence[str], title: str, *, notebooks: str, store: str) -> dict[str, Any]:
    """Return kernel.json for the kernel that an image's label describes. Raises `UsageError` for an invalid label."""
    found = read_label(text)
    if isinstance(found, ShellLabel):
        return document(run, title, shell=found.shell, store=store, notebooks=notebooks)
    return {
        "argv": list(found.argv),
        "display_name": title,
        "language": found.language,
        "interrupt_mode": found.interrupt_mode,
        "metadata": {"kernel_provisioner": _provisioner(run, notebooks)},
    }


def with_run(spec: dict[str, Any], run: Sequence[str], title: str) -> dict[str, Any]:
    """Return a kernelspec of this package with other arguments for its container."""
    words = shlex.join(run)
    if provisioned(spec):
        config = {**spec["metadata"]["kernel_provisioner"]["config"], "run": words}
        provisioner = {**spec["metadata"]["kernel_provisioner"], "config": config}
        return {**spec, "display_name": title, "metadata": {**spec["metadata"], "kernel_provisioner": provisioner}}
    argv = [word for word in spec["argv"] if not word.startswith(_RUN)]
    return {**spec, "display_name": title, "argv": [*argv, _RUN + words]}


def read(kernel: Installed) -> dict[str, Any]:
    """Return the kernel.json of an installed kernel."""
    found: dict[str, Any] = json.loads((kernel.path / "kernel.json").read_text())
    return found


def install(spec: Mapping[str, Any], name: str, *, prefix: str = "", logos: str = "") -> Path:
    """Write a kernelspec, and replace one of that name; return its directory (host).

    It is below `prefix`, or in the user's data directory. It gets the logos of the kernelspec in the directory `logos`
    (host). Raises `UsageError` if it cannot be written.
    """
    check_name(name)
    folder = Path(prefix, "share", "jupyter", "kernels") if prefix else Path(KernelSpecManager().user_kernel_dir)
    files = {logo.name: logo.read_bytes() for logo in Path(logos).glob("logo-*")} if logos else {}
    try:
        whole_directories.write(folder / name, {**files, _SPEC: f"{json.dumps(spec, indent=1)}\n".encode()}, _SPEC)
    except OSError as error:
        hint = "name another directory with `--prefix`"
        raise UsageError(f"cannot install a kernel in {prefix or folder}: {error.strerror}", hint=hint) from error
    return folder / name


def installed() -> list[Installed]:
    """Return the kernelspecs of this package that Jupyter finds, by name."""
    found = []
    for name, path in sorted(KernelSpecManager(ensure_native_kernel=False).find_kernel_specs().items()):
        try:
            spec = json.loads((Path(path) / "kernel.json").read_text())
            run = _run_of(spec)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if run is not None:
            found.append(Installed(name, str(spec.get("display_name", "")), run, Path(path)))
    return found


def _run_of(spec: dict[str, Any]) -> str | None:
    """Return the arguments of a kernelspec's container; None if the kernelspec is not this package's."""
    if provisioned(spec):
        return str(spec["metadata"]["kernel_provisioner"]["config"]["run"])
    argv = [str(word) for word in spec["argv"]]
    if MODULE not in argv:
        return None
    return next((word.removeprefix(_RUN) for word in argv if word.startswith(_RUN)), "busybox")


def remove(name: str) -> Path:
    """Remove a kernelspec of this package; return its directory. Raises `UsageError` for any other."""
    if name not in [one.name for one in installed()]:
        raise UsageError(f"no such kernel: '{name}'", hint="list kernels with `nbcontainer kernel list`")
    try:
        path = Path(KernelSpecManager(ensure_native_kernel=False).get_kernel_spec(name).resource_dir)
        whole_directories.remove(path)
    except (OSError, NoSuchKernel) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"cannot remove kernel {name}: {problem}", hint="its directory may be another user's"
        ) from error
    return path
