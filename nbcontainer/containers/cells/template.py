"""The plan of a cell but for its root: what its request, its image and its streams ask for, as a `Spec`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.containers.options import command_line, environment
from nbcontainer.images.builtin.host_variables import host_variables
from nbcontainer.oci.reference import HOST
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.plan import PlanTemplate, compilable, shares
from nbcontainer.sandbox.spec import SHM_SIZE, Program, Spec
from nbcontainer.sandbox.steps.exchange.display import PROGRAMS

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.networking import Networking
    from nbcontainer.sandbox.spec import ControlDirectory, Mounts, ProcLevel, Values
    from nbcontainer.sandbox.userns.idmap import IdMap

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


class TemplateSource(NamedTuple):
    """All that a template is made of. `name` is the host name of a request that has none.

    `argv` is the program with its arguments; `body` is whether it runs a script. `idmap` and `proc` are the launcher's.
    `compiled` is whether init can be the compiled helper, if the plan suits it.
    """

    argv: tuple[str, ...]
    body: bool
    driver: str
    options: RunOptions
    image: Image
    display: bool
    control_directory: ControlDirectory | None
    values: Values | None
    attached: Attached
    name: str
    idmap: IdMap
    proc: ProcLevel
    compiled: bool

    @property
    def is_whole(self) -> bool:
        """Whether equal sources make equal templates: nothing else of this machine is looked up for one."""
        networking = self.options.networking
        looked_up = Network.PRIVATE in (networking.network, self.attached.network)
        return not (looked_up or networking.dns or self.image.name == HOST)


def make_template(
    engine: Engine, request: Request, image: Image, streams: Streams, attached: Attached, name: str
) -> PlanTemplate:
    """Return the plan of a request but for its root. `name` is the host name of a request that has none.

    It is the same object as for the last request if that was alike. Raises `UsageError`.
    """
    source, last = _source(engine, request, image, streams, attached, name), engine.last_template
    if last is not None and last[0] == source:
        return last[1]
    made = _made(source)
    if source.is_whole:
        engine.last_template = (source, made)
    return made


def _source(
    engine: Engine, request: Request, image: Image, streams: Streams, attached: Attached, name: str
) -> TemplateSource:
    options = request.options
    launcher = engine.launcher_for(options.privileges.userns)
    body = request.body
    argv = command_line(
        image.config,
        request.command,
        script=body,
        arguments=request.arguments,
        entrypoint=options.process.entrypoint,
        interpreter=request.interpreter,
    )
    return TemplateSource(
        argv,
        body is not None,
        request.driver,
        options,
        image,
        streams.display is not None or streams.control_directory is not None,
        streams.control_directory,
        streams.values,
        attached,
        name,
        launcher.idmap,
        launcher.proc,
        launcher.helper and not options.explain and streams.on_began is None,
    )


def _made(source: TemplateSource) -> PlanTemplate:
    options, attached, resources = source.options, source.attached, source.options.resources
    networking = options.networking
    if attached.network == Network.HOST:
        networking = replace(networking, network=Network.HOST)
    spec = Spec(
        _program(source),
        hostname=options.hostname or source.name,
        mounts=attached.mounts,
        networking=networking,
        privileges=options.privileges,
        limits=resources.process_limits,
        shm_size=resources.shm_size or SHM_SIZE,
        resolver=_resolver(replace(networking, network=attached.network) if attached.network else networking),
        namespace=attached.namespace,
        script=SCRIPT_FILE if source.body else None,
        control_directory=source.control_directory,
        git_config=options.process.git_config,
        driver=source.driver,
        groups=hierarchy.PREFIX if resources.cgroup_limits.controllers else "",
        values=source.values and replace(source.values, size=resources.storage),
    )
    compiled = source.compiled and compilable(spec, source.idmap, source.proc)
    return PlanTemplate(spec, source.idmap, source.proc, compiled=compiled, shares=shares(spec))


def _program(source: TemplateSource) -> Program:
    process, config = source.options.process, source.image.config
    if source.image.name == HOST:
        process = replace(process, unset_env=(*process.unset_env, *host_variables(process.user)))
    env = environment(config, process)
    return Program(
        source.argv,
        _with_display(env) if source.display else env,
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
