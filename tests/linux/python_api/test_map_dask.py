"""`map` on dask.distributed: workers that lack the image, that are killed, and that lose their scheduler."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import Result, WorkerLost
from nbcontainer.mapping import executor_errors
from tests.running import all_dead, appear, descendants, marker, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")

ITEMS = int(os.environ.get("NBCONTAINER_MAP_ITEMS", "60"))
"""Items of the long test; 10000 by hand."""


@contextlib.contextmanager
def cluster(place: Path) -> Iterator[tuple[Any, Any]]:
    """A cluster of two worker processes of two threads, whose store is empty, and a client."""
    import dask

    settings = {"distributed.nanny.environ.NBCONTAINER_HOME": str(place / "store"), "distributed.logging": {}}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            dashboard_address=None,
            local_directory=str(place),
            silence_logs=50,
        ) as made,
        distributed.Client(made) as client,
    ):
        yield made, client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """One cluster for the tests of this file."""
    with cluster(tmp_path_factory.mktemp("dask")) as found:
        yield found


LATE = 100
"""Seconds after which a test is late; its time limit ends it 80 seconds later."""


def tell(client: Any) -> None:
    """Says what the workers do: their own output is not the test's."""
    workers = client.scheduler_info()["workers"].values()
    print({one["name"]: (one["status"], one["metrics"]) for one in workers}, client.processing(), sep="\n")
    for address, tasks in client.call_stack().items():
        for key, stack in tasks.items():
            print(address, key, "".join(stack), sep="\n")


@pytest.fixture
def executor(shared: tuple[Any, Any]) -> Iterator[Any]:
    """The executor of the shared cluster. If a test is late, its report says what the workers do."""
    timer = threading.Timer(LATE, tell, [shared[1]])
    timer.start()
    yield shared[1].get_executor()
    timer.cancel()


def killed_while(client: Any, mark: str) -> threading.Thread:
    """Kills a worker with SIGKILL when a process with `mark` runs on it."""
    workers = list(client.run(os.getpid).values())

    def kill() -> None:
        victim = None
        while victim is None:  # the process may have ended before its worker was found
            found = set(appear(mark, 1))
            victim = next((pid for pid in workers if found & descendants(pid)), None)
        os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.usefixtures("default")
def test_an_image_gets_to_workers_that_lack_it(executor: Any) -> None:
    """Workers with an empty store get a committed image with its layers, once each; every item has its result."""
    with nbcontainer.create("busybox") as box:
        box.run(script="echo made > /made")
        box.commit("made-here")
    try:
        found = list(nbcontainer.map("made-here", ["cat", "/made", "-"], map(str, range(ITEMS)), executor=executor))
    finally:
        nbcontainer.remove_image("made-here")
    results = [one for one in found if isinstance(one, Result)]
    assert [one.text for one in results] == [f"made\n{number}" for number in range(ITEMS)]
    assert {one.attempts for one in results} == {1}


@pytest.mark.usefixtures("default")
def test_functions_files_and_failures_on_workers(executor: Any) -> None:
    """A function, files and bad outcomes come back from a worker as from a thread."""
    (one,) = nbcontainer.map("host", lambda value: {"twice": 2 * value}, [21], executor=executor)
    assert isinstance(one, Result)
    assert one.value == {"twice": 42}, one.stderr
    script = ["sh", "-c", "read code; echo x > /file; exit $code"]
    found = list(nbcontainer.map("busybox", script, ["0\n", "3\n"], files=["/file"], executor=executor))
    assert [(one.exit_code, one.files) for one in found if isinstance(one, Result)] == [
        (0, {"/file": b"x\n"}),
        (3, {"/file": b"x\n"}),
    ]


@pytest.mark.usefixtures("default")
def test_an_item_of_a_dead_worker_runs_again_and_says_so(shared: tuple[Any, Any]) -> None:
    """If a worker is killed, every item has one result; those that ran on it have more than one attempt."""
    mark = marker()
    thread = killed_while(shared[1], mark)
    script = ["sh", "-c", f"sh -c 'sleep 1; true' {mark}; cat"]
    found = list(nbcontainer.map("busybox", script, map(str, range(12)), executor=shared[1].get_executor()))
    thread.join()
    results = [one for one in found if isinstance(one, Result)]
    assert [one.text for one in results] == [str(number) for number in range(12)]
    assert any(one.attempts > 1 for one in results)
    assert sum(one.attempts - 1 for one in results) <= 8


@pytest.mark.usefixtures("default")
def test_the_end_of_a_map_ends_its_items_on_workers(executor: Any) -> None:
    """`close` ends the containers on the workers."""
    list(nbcontainer.map("busybox", ["true"], [""] * 4, executor=executor))  # now they have the image
    mark = marker()
    with nbcontainer.map("busybox", ["sleep", mark], ["x"] * 6, executor=executor):
        fds = pidfds(appear(mark, 3))
    assert all_dead(fds)
    assert all_dead(pidfds(processes_with(mark)))  # one more may have begun


NOTEBOOK = """
import distributed, nbcontainer, sys
with distributed.Client(sys.argv[2]) as client:
    list(nbcontainer.map("busybox", ["sleep", sys.argv[1]], ["x"] * 4, executor=client.get_executor()))
"""


@pytest.mark.usefixtures("default")
def test_a_killed_notebook_leaves_nothing_on_workers(shared: tuple[Any, Any]) -> None:
    """SIGKILL of the notebook ends the containers on the workers, which stay for others."""
    mark = marker()
    address = shared[0].scheduler_address
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK, mark, address])
    try:
        fds = pidfds(set(appear(mark, 5)) - {notebook.pid})
    finally:
        notebook.kill()
        notebook.wait()
    assert all_dead(fds)
    (one,) = nbcontainer.map("busybox", ["echo", "alive"], [""], executor=shared[1].get_executor())
    assert isinstance(one, Result)
    assert one.text == "alive\n"


@pytest.mark.usefixtures("default")
def test_doctor_checks_every_worker(executor: Any) -> None:
    """`doctor` has an entry for each worker of the cluster, and says whether all can run containers."""
    executor._client.wait_for_workers(2, timeout=60)
    report = nbcontainer.doctor(executor)
    assert len({check.worker for check in report}) == 2
    assert report.ok


@pytest.mark.usefixtures("default")
def test_a_closed_client_answers_for_each_item(shared: tuple[Any, Any]) -> None:
    """Each item has an error with what to do, and so has `doctor`; so it is if only the executor is closed."""
    with distributed.Client(shared[0].scheduler_address) as client:
        executor = client.get_executor()
        executor.shutdown()
        (found,) = nbcontainer.map("busybox", ["true"], ["x"], executor=executor)
        assert str(found).startswith("the executor is closed (")
        executor = client.get_executor()
    lost, advice = executor_errors.DASK_LOST, executor_errors.CONNECT
    answers = list(nbcontainer.map("busybox", ["true"], ["x"] * 2, executor=executor))
    assert [str(one) for one in answers if isinstance(one, WorkerLost)] == [f"{lost}; {advice}"] * 2
    table = nbcontainer.doctor(executor)
    assert not table.ok
    assert [(one.found, one.advice) for one in table] == [(lost, advice)]


@pytest.mark.slow
@pytest.mark.usefixtures("default")
def test_a_lost_scheduler_loses_no_item(tmp_path: Path) -> None:
    """If the scheduler is lost, each item has its result or a `WorkerLost`, and all containers end."""
    import dask

    mark, found = marker(), []
    with (
        contextlib.ExitStack() as configured,
        contextlib.suppress(Exception),  # what the cluster raises at its own end
        cluster(tmp_path) as (made, _),
        distributed.Client(made.scheduler_address, timeout="5s") as client,  # so long it tries to find it again
    ):
        # Not for the start of the cluster, but to its end: the workers try to find the scheduler, too.
        configured.enter_context(dask.config.set({"distributed.comm.timeouts.connect": "1s"}))

        def lose() -> None:
            appear(mark, 2)
            made.sync(made.scheduler.close)

        thread = threading.Thread(target=lose)
        thread.start()
        script = ["sh", "-c", f"read text; [ $text = first ] || sleep {mark}; echo $text"]
        inputs = ["first\n", *["later\n"] * 30]
        found = list(nbcontainer.map("busybox", script, inputs, executor=client.get_executor()))
        thread.join()
    assert len(found) == 31
    assert all(isinstance(one, Result | WorkerLost) for one in found)
    assert any(isinstance(one, WorkerLost) for one in found)
    assert all_dead(pidfds(appear(mark, 0)))


def test_dask_is_not_needed(default: Engine) -> None:
    """`map` on this machine imports neither Dask nor cloudpickle."""
    script = (
        "import nbcontainer, sys; list(nbcontainer.map('busybox', ['true'], ['']))\n"
        "print({'dask', 'distributed', 'cloudpickle'} & set(sys.modules))"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert time.monotonic() - began < 60
    assert default.store.path.exists()
