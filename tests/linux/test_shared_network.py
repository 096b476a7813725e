"""`--network container:NAME`: a cell in the network of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ContainerNotFound, UsageError
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from tests.requirements import require_private_network
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job

SERVER = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"
CLIENT = "until wget -qO- http://127.0.0.1:8080/index.html; do sleep 0.02; done"


@pytest.fixture
def serve(engine: Engine) -> Iterator[Callable[..., Job]]:
    """Starts a web server as the job `web`."""
    jobs: list[Job] = []

    def run(**options: object) -> Job:
        jobs.append(start(engine, Request("busybox", "web", script=SERVER, options=run_options(options))))
        return jobs[-1]

    yield run
    for job in jobs:
        job.stop(0)
    get(engine, "web").remove()


def test_a_cell_talks_to_a_job_on_the_loopback(engine: Engine, serve: Callable[..., Job]) -> None:
    """127.0.0.1 is the job's, and another cell does not reach it. Files and processes stay apart."""
    serve()
    ran = run_script(engine, f"{CLIENT}; ls -d /www; ps", network="container:web")
    assert ran.lines[0] == "served"
    assert "/www" not in ran.lines[1:]
    assert b"httpd" not in ran.stdout
    assert run_script(engine, "wget -qO- http://127.0.0.1:8080/index.html").outcome.exit_code == 1


def test_a_job_joins_the_network_of_another_one(engine: Engine, serve: Callable[..., Job]) -> None:
    """A job in the network of a job is one more way to it."""
    serve()
    options = run_options({"network": "container:web"})
    second = start(engine, Request("busybox", "second", script="exec sleep 1000", options=options))
    assert run_script(engine, CLIENT, network="container:second").text == "served"
    second.stop(0)
    second.container.remove()


@pytest.mark.parametrize("again", [True, False], ids=["restarted", "stopped"])
def test_a_job_keeps_the_network_that_it_has_joined(engine: Engine, serve: Callable[..., Job], *, again: bool) -> None:
    """A cell in its network is in that one, whatever has become of the container that it was of."""
    first = serve()
    options = run_options({"network": "container:web"})
    second = start(engine, Request("busybox", "second", script=SERVER.replace("8080", "9090"), options=options))
    first.stop(0)
    if again:
        serve()
    assert run_script(engine, CLIENT.replace("8080", "9090"), network="container:second").text == "served"
    second.stop(0)
    second.container.remove()


def test_a_private_network_is_shared_with_its_resolver(engine: Engine, serve: Callable[..., Job]) -> None:
    """A cell in the private network of a job has the job's way out, and its name server."""
    require_private_network()
    serve(network="private")
    ran = run_script(
        engine, f"{CLIENT}; ls /sys/class/net | wc -l; cat /etc/resolv.conf; ip addr", network="container:web"
    )
    assert ran.text.startswith("served")
    assert "nameserver 10.0.2.3" in ran.text
    assert "10.0.2." in ran.text.partition("lo:")[2]


def test_a_container_that_does_not_run_is_one_line(engine: Engine, serve: Callable[..., Job]) -> None:
    """The error names the next step, and nothing is left."""
    with pytest.raises(ContainerNotFound, match=r"no container 'web' runs in this notebook; start it with"):
        run_script(engine, "true", network="container:web")
    job = serve()
    job.stop(0)
    with pytest.raises(ContainerNotFound):
        run_script(engine, "true", network="container:web")
    options = run_options({"network": "container:web"})
    with pytest.raises(ContainerNotFound, match="no container 'web' runs"):
        start(engine, Request("busybox", "second", script="sleep 1000", options=options))
    with pytest.raises(ContainerNotFound, match="no such container: 'second'"):
        get(engine, "second")


def test_a_job_with_more_capabilities_shares_its_network(engine: Engine, serve: Callable[..., Job]) -> None:
    """Its network belongs to a user namespace of its own, which is below the one of a cell with the usual ones."""
    serve(capabilities=(*DEFAULT_CAPABILITIES, "NET_ADMIN"))
    assert run_script(engine, CLIENT, network="container:web").text == "served"


def test_more_capabilities_are_refused_in_the_network_of_another() -> None:
    """They are over the user namespace of the container, to which that network does not belong."""
    with pytest.raises(UsageError, match=r"--cap-add cannot be used with --network container:web: .*; start that "):
        run_options({"network": "container:web", "capabilities": (*DEFAULT_CAPABILITIES, "NET_ADMIN")})
    run_options({"network": "container:web", "capabilities": ("CHOWN",)})


@pytest.mark.parametrize("network", ["container", "container:", "containers:x"])
def test_a_network_without_a_name_is_refused(network: str) -> None:
    """The hint shows how to write it."""
    with pytest.raises(UsageError, match=r"unknown network .*container:NAME"):
        run_options({"network": network})


def test_ports_belong_to_the_job() -> None:
    """`-p` cannot be used in another container's network."""
    from nbcontainer.commands.options.ports import parse_port

    with pytest.raises(UsageError, match="--publish cannot be used with --network container:web"):
        run_options({"network": "container:web", "ports": (parse_port("8080:8080"),)})
