"""Kernelspecs: how Jupyter finds this kernel, one for each image that notebooks are to run in."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODULE = "nbcontainer.notebook.kernel"
PROVISIONER = "nbcontainer"
"""The entry point's name (`nbcontainer.notebook.provisioner`)."""

_NAME = re.compile(r"[a-z0-9._-]+")
_RUN = "--ContainerKernel.run="
_SHELL = "--ContainerKernel.shell_name="


@dataclass(frozen=True)
class Installed:
    """A kernelspec of this kernel: its name, what a launcher shows, the words of its container, and its directory."""

    name: str
    display_name: str
    run: str
    path: Path


def name_for(image: str) -> str:
    """A name for the kernel of an image: `nbcontainer-debian-12` for `debian:12`."""
    stem = re.sub(r"[^a-z0-9.]+", "-", image.rpartition("/")[2].lower().partition(".tar")[0]).strip("-.")
    return f"nbcontainer-{stem}" if stem else "nbcontainer"


def check_name(name: str) -> str:
    """`name`, if a kernel can have it (jupyter-client.readthedocs.io, "Kernel specs"). Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a kernel", hint="use a-z, 0-9, -, _ and .")
    return name


def document(run: Sequence[str], display_name: str, *, shell: str = "", store: str = "") -> dict[str, Any]:
    """kernel.json for a kernel whose container is that of `%container run` with these words."""
    argv = [sys.executable, "-m", MODULE, "-f", "{connection_file}", _RUN + shlex.join(run)]
    if shell:
        argv.append(_SHELL + shell)
    return {
        "argv": argv,
        "display_name": display_name,
        "language": "bash",
        # An interrupt comes in at any moment, and by the channel that is made for it.
        "interrupt_mode": "message",
        "env": {"NBCONTAINER_HOME": store} if store else {},
        "metadata": {"debugger": False},
    }


def document_inside(kernel: str, run: Sequence[str], display_name: str, *, notebooks: str = "") -> dict[str, Any]:
    """kernel.json for the kernel of that name, as it is installed here, in a container of `%container run` with `run`.

    It is what it is, but for its interpreter, which is the image's own, and for who launches it. `notebooks` is ro, rw
    or empty. Raises `UsageError`.
    """
    try:
        found = KernelSpecManager().get_kernel_spec(kernel)
    except NoSuchKernel:
        hint = "see `jupyter kernelspec list`"
        raise UsageError(f"no kernel {kernel} is installed", hint=hint) from None
    spec: dict[str, Any] = found.to_dict()
    program = Path(spec["argv"][0]).name if spec["argv"] else ""
    if program.startswith("python"):
        program = "python3"  # an image has that name for any
    spec["argv"] = [program, *spec["argv"][1:]]
    spec["display_name"] = display_name
    config = {"run": shlex.join(run), "notebooks": notebooks}
    provisioner = {"provisioner_name": PROVISIONER, "config": config}
    spec["metadata"] = {**spec["metadata"], "kernel_provisioner": provisioner}
    return spec


def install(spec: Mapping[str, Any], name: str, *, prefix: str = "") -> Path:
    """Writes a kernelspec, in place of one of that name; its directory (host).

    Below `prefix`, or in the user's own data directory. Raises `UsageError` where it cannot be written.
    """
    check_name(name)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        manager = KernelSpecManager()
        try:
            path = manager.install_kernel_spec(folder, name, user=not prefix, prefix=prefix or None)
        except OSError as error:
            where = prefix or manager.user_kernel_dir
            raise UsageError(
                f"cannot install a kernel in {where}: {error.strerror}", hint="name another with --prefix"
            ) from error
    return Path(path)


def installed() -> list[Installed]:
    """The kernelspecs of this kernel that Jupyter finds, by name."""
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
    """The words of the container that a kernelspec's kernel runs in; None for one that is not of ours."""
    provisioner = spec.get("metadata", {}).get("kernel_provisioner", {})
    if provisioner.get("provisioner_name") == PROVISIONER:
        return str(provisioner["config"]["run"])
    argv = [str(word) for word in spec["argv"]]
    if MODULE not in argv:
        return None
    return next((word.removeprefix(_RUN) for word in argv if word.startswith(_RUN)), "busybox")


def remove(name: str) -> Path:
    """Removes a kernelspec of this kernel; the directory that it was. Raises `UsageError` for any other."""
    if name not in [one.name for one in installed()]:
        raise UsageError(f"no kernel of nbcontainer's is named {name}", hint="see `nbcontainer kernel list`")
    try:
        return Path(KernelSpecManager(ensure_native_kernel=False).remove_kernel_spec(name))
    except (OSError, NoSuchKernel) as error:
        raise UsageError(f"cannot remove kernel {name}: {error}", hint="its directory may be another user's") from error
