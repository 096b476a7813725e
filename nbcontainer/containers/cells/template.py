"""The plan of a cell but for its root: what its request, its image and its streams ask for, as a `Spec`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.containers.options import command_line, environment
from nbcontainer.images.builtin.host_variables import host_variables
from nbcontainer.oci.reference import HOST
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.spec import SHM_SIZE, Network, Program, Spec
from nbcontainer.sandbox.steps.display import PROGRAMS

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Mounts, Networking

SCRIPT_FILE = 3
"""The number of the travelling descriptor that holds a cell's body: it comes after the streams."""


@dataclass(frozen=True)
class Attached:
    """What a cell has of the host, as it travels.

    `network` is that of the container whose network it shares, empty for its own, and `namespace` the number of the
    travelling descriptor of that network's namespace, None for the host's network or its own one.
    """

    mounts: Mounts
    network: str = ""
    namespace: int | None = None


def make_template(
    request: Request, image: Image, streams: Streams, launcher: Launcher, attached: Attached, name: str
) -> PlanTemplate:
    """Return the plan of a request but for its root. `name` is the host name of a request that has none.

    Raises `UsageError`.
    """
    options, resources = request.options, request.options.resources
    networking = options.networking
    if attached.network == Network.HOST:
        networking = replace(networking, network=Network.HOST)
    spec = Spec(
        _program(request, image, streams),
        hostname=options.hostname or name,
        mounts=attached.mounts,
        networking=networking,
        privileges=options.privileges,
        limits=resources.process_limits,
        shm_size=resources.shm_size or SHM_SIZE,
        resolver=_resolver(replace(networking, network=attached.network) if attached.network else networking),
        namespace=attached.namespace,
        script=None if request.body is None else SCRIPT_FILE,
        control_directory=streams.control_directory,
        git_config=options.process.git_config,
        driver=request.driver,
        groups=hierarchy.PREFIX if resources.cgroup_limits.controllers else "",
        values=streams.values and replace(streams.values, size=resources.storage),
    )
    return PlanTemplate(spec, launcher.idmap, launcher.proc)


def _program(request: Request, image: Image, streams: Streams) -> Program:
    process, config = request.options.process, image.config
    if image.name == HOST:
        process = replace(process, unset_env=(*process.unset_env, *host_variables(process.user)))
    argv = command_line(
        config,
        request.command,
        script=request.body,
        arguments=request.arguments,
        entrypoint=process.entrypoint,
        interpreter=request.interpreter,
    )
    env = environment(config, process)
    if streams.display is not None or streams.control_directory is not None:
        env = _with_display(env)
    return Program(
        argv,
        env,
        process.workdir or config.working_dir or "/",
        process.user or config.user,
        process.terminal,
        process.groups,
        process.terminal_input,
    )


def _with_display(env: tuple[str, ...]) -> tuple[str, ...]:
    """Return the environment of a notebook that shows data: `display` is found, before an image's program."""
    return tuple(f"PATH={PROGRAMS}:{item[5:]}" if item.startswith("PATH=") else item for item in env)


def _resolver(networking: Networking) -> str:
    """Return the text of the container's own /etc/resolv.conf, empty if it has none."""
    if networking.network != Network.PRIVATE and not networking.dns:
        return ""
    from nbcontainer.sandbox.network import private

    text = private.resolver_text()
    if not networking.dns:
        return text
    # The host's search domains and options stay, as with Docker.
    kept = [line for line in text.splitlines() if not line.startswith("nameserver ")]
    return "\n".join((*(f"nameserver {address}" for address in networking.dns), *kept, ""))
