"""PostgreSQL and Redis of Debian as jobs: a cell waits for them, and talks to them on the loopback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs import following
from nbcontainer.containers.jobs.log import LogStream
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.options import run_options
from tests.debian import debian_tar, network_options
from tests.interop.conftest import Ours
from tests.requirements import require
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import Podman

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("NBCONTAINER_SERVICES"), reason="NBCONTAINER_SERVICES=1 installs two servers"
    ),
]

INSTALL = """
set -e
apt-get update -q
apt-get install -y -q --no-install-recommends postgresql redis-server
"""
POSTGRES = """
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
$bin/initdb -D /tmp/data >/dev/null
exec $bin/postgres -D /tmp/data -k /tmp
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> Iterator[Engine]:
    """A store with the image `services`."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    engine = Engine(tmp_path_factory.mktemp("services") / "store")
    if engine.single_id:
        pytest.skip("apt wants a second user")
    ours = Ours(engine)
    ours("import", debian_tar(), "debian")
    ran = run_script(engine, INSTALL, image="debian", name="box", **network_options())
    assert ran.outcome.ok, ran.stdout[-2000:] + ran.stderr[-2000:]
    ours("commit", "box", "services", "--change", "HEALTHCHECK --interval=100ms CMD redis-cli ping")
    yield engine
    engine.close()


def test_a_cell_talks_to_postgresql_in_a_job(services: Engine) -> None:
    """The job is ready when it says so, after it listens; a cell in its network creates a table, and exec reads it."""
    request = Request("services", "postgres", script=POSTGRES, options=run_options({"user": "postgres"}))
    job = start(services, request, wait_for="ready to accept connections")
    sql = "create table t as select 6*7 as answer; select answer from t"
    client = f"psql -qtA -h 127.0.0.1 -U postgres -c '{sql}'"
    ran = run_script(services, client, image="services", network="container:postgres")
    assert (ran.text, ran.outcome.exit_code) == ("42", 0), ran.stderr
    with following.open_log(services, "postgres") as log:
        assert b"ready to accept connections" in b"".join(record.data for record in log.records())
    job.stop(20)
    assert job.outcome is not None
    assert job.outcome.exit_code == 0, job.outcome


def test_a_cell_talks_to_redis_in_a_job(services: Engine) -> None:
    """The health check of the image says when it is ready."""
    job = start(services, Request("services", "redis", ("redis-server", "--save", "")), wait_for="healthy")
    ran = run_script(
        services, "redis-cli set key value; redis-cli get key", image="services", network="container:redis"
    )
    assert ran.lines == ["OK", "value"]
    job.stop(20)
    assert job.outcome is not None
    assert job.outcome.exit_code == 0, job.outcome


def test_logs_and_exit_codes_are_those_of_podman(services: Engine, podman: Podman) -> None:
    """The output of a job and its exit code are what podman has for the same script; errors stay apart."""
    ours, script = Ours(services), "echo one; echo two >&2; echo three; sleep 0.1; exit 7"
    archive = services.store.path.parent / "busybox.tar"
    ours("save", "busybox", "-o", archive)
    podman("load", "-i", archive)
    podman("run", "-d", "--name", "job", "--network", "none", "docker.io/library/busybox", "sh", "-c", script)
    assert podman("wait", "job").strip() == "7"
    theirs = podman("logs", "job")
    job = start(services, Request("busybox", "job", ("sh", "-c", script)))
    assert job.wait().exit_code == 7
    with following.open_log(services, "job") as log:
        records = [*log.records()]
    own = {stream: b"".join(one.data for one in records if one.stream is stream).decode() for stream in LogStream}
    assert (own[LogStream.OUT], own[LogStream.ERR]) == (theirs, "two\n")
    podman("rm", "-f", "job")
