"""The public names of the package: found, typed, imported late, and able to travel between processes."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import pydoc
import re
import subprocess
import sys
import typing
from typing import Any

import pytest

import nbcontainer
from nbcontainer import CellFailed, Container, NbcontainerError, Outcome, Result, SetupFailed
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.record import Record
from nbcontainer.containers.workspace import NoWorkspace
from nbcontainer.errors import ContainerError
from nbcontainer.outcome import Reason

OUTCOME = Outcome(Reason.EXITED, 3, wall_time=0.25)
CELL = CellRecord("layer.1", "echo 'a'\nexit 3", "2026-11-24T20:00:00Z", OUTCOME)
RECORD = Record("dev", "busybox", "sha256:" + "0" * 64, ("base.1",), "2026-11-24T19:00:00Z", journal="a.1").after(CELL)


def container() -> Container:
    """A container without a store."""
    return Container(typing.cast("Any", NoWorkspace("dev")), RECORD)


def errors() -> list[NbcontainerError]:
    """One error of each public class."""
    found: list[NbcontainerError] = []
    for name in nbcontainer.__all__:
        kind = getattr(nbcontainer, name)
        if inspect.isclass(kind) and issubclass(kind, NbcontainerError):
            if issubclass(kind, SetupFailed):
                found.append(kind("it failed", step="Execute", errno=2, path="/x", hint="do that"))
            elif issubclass(kind, CellFailed):
                found.append(kind("it failed", outcome=OUTCOME, hint="do that"))
            else:
                found.append(kind("it failed", hint="do that"))
    return found


def fail(_: int) -> None:
    """Raises, in a process of a pool."""
    raise CellFailed("exit code 3", outcome=OUTCOME, hint="look at it")


def test_dir_and_help_list_the_public_names() -> None:
    """`dir` and `help` list every public name, with examples."""
    assert set(nbcontainer.__all__) <= set(dir(nbcontainer))
    text = pydoc.plain(pydoc.render_doc(nbcontainer))
    for name in nbcontainer.__all__:
        assert name in text or name == "__version__"
    assert '>>> result = nbcontainer.run("busybox", ["echo", "hello"])' in text


def test_dir_of_a_container_is_what_users_call() -> None:
    """Completion shows what is documented, and not what the package uses; each name is there."""
    names = [name for name in dir(container()) if not name.startswith("__")]
    assert {"run", "start", "exec", "logs", "wait", "stop", "put", "get", "undo", "remove", "name"} <= set(names)
    assert not {"workspace", "saved", "upper", "use", "place", "flatten", "lose_cell"} & set(names)
    assert [name for name in names if not hasattr(nbcontainer.Container, name) and name != "record"] == []


def test_every_error_is_public() -> None:
    """Each class of `nbcontainer.errors` is a public name of the package."""
    from nbcontainer import errors as module

    kinds = {name for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert kinds <= set(nbcontainer.__all__)


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    """The drawing at the top of `nbcontainer.errors` has each class, below the one that it derives from."""
    from nbcontainer import errors as module

    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (module.__doc__ or "").partition("\n\n")[2].splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)", line)
        assert found is not None, line
        depth = len(found[1]) // 4
        above[depth:] = [found[2]]
        drawn[found[2]] = above[depth - 1] if depth else "Exception"
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, NbcontainerError)]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not public raises AttributeError."""
    with pytest.raises(AttributeError, match="module 'nbcontainer' has no attribute 'nothing'"):
        nbcontainer.nothing  # noqa: B018


def test_the_import_is_lazy() -> None:
    """`import nbcontainer` loads one more module of the package, and nothing outside the standard library."""
    script = (
        "import sys; before = set(sys.modules); import nbcontainer\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('nbcontainer')))\n"
        "print('IPython' in sys.modules, 'urllib3' in sys.modules, 'json' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['nbcontainer', 'nbcontainer._version']", "False False False"]


@pytest.mark.parametrize("name", [name for name in nbcontainer.__all__ if name != "__version__"])
def test_type_hints_can_be_read(name: str) -> None:
    """`typing.get_type_hints` works on each public function and class, and on its public members."""
    value = getattr(nbcontainer, name)
    typing.get_type_hints(value)
    if inspect.isclass(value):
        for key, member in inspect.getmembers_static(value):  # inherited ones, too
            if key.startswith("_") and key != "__init__":
                continue
            if isinstance(member, classmethod | staticmethod):
                typing.get_type_hints(member.__func__)
            elif inspect.isfunction(member):
                typing.get_type_hints(member)
            elif isinstance(member, property):
                typing.get_type_hints(member.fget)


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_pickle_and_copy(error: NbcontainerError, travel: typing.Callable[[Any], Any]) -> None:
    """An error keeps its class, text and attributes when it is pickled or copied."""
    found = travel(error)
    assert type(found) is type(error)
    assert str(found) == "it failed; do that"
    assert vars(found) == vars(error)


@pytest.mark.timeout(60)
def test_an_error_reaches_the_parent_of_a_pool() -> None:
    """`CellFailed` in a process of a pool is raised in the parent, which does not hang."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        waiting = pool.map_async(fail, [1])
        with pytest.raises(CellFailed, match="exit code 3; look at it") as raised:
            waiting.get(timeout=50)
    assert raised.value.outcome == OUTCOME


def test_a_result_pickles() -> None:
    """A result travels with its facts; its container can be looked at there, and says that it cannot be used."""
    found = pickle.loads(pickle.dumps(Result(container(), OUTCOME, b"out\n", b"")))
    assert (found.text, found.outcome, found.container.record) == ("out\n", OUTCOME, RECORD)
    with pytest.raises(ContainerError, match=r"container 'dev' was copied from another process .*; open a named"):
        found.container.remove()


def test_a_copied_result_is_whole() -> None:
    """In the same process, the container of a copied result can be used."""
    original = Result(container(), OUTCOME, b"out\n", b"")
    for found in (copy.copy(original), copy.deepcopy(original)):
        assert found.container.workspace is original.container.workspace
        assert found.container.record == RECORD


def test_results_are_compared_and_in_sets() -> None:
    """Whatever values they have: == of two arrays is an array, and a list has no hash."""

    class Ambiguous:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    box = container()
    first, same = (Result(box, OUTCOME, b"out\n", b"", {"x": Ambiguous()}, Ambiguous()) for _ in range(2))
    other = Result(box, OUTCOME, b"other\n", b"")
    assert first == same != other
    assert len({first, same, other}) == 2


def test_reprs_are_short() -> None:
    """A `repr` says in one line which object it is."""
    assert repr(OUTCOME) == "<Outcome: exit code 3, 0.25 s>"
    assert repr(CELL) == "<CellRecord \"echo 'a' exit 3\": exit code 3>"
    assert repr(container()) == "<Container 'dev' of busybox: 1 cell>"
    result = Result(container(), OUTCOME, b"out\n", b"")
    assert repr(result) == "<Result: exit code 3, 4 + 0 bytes, <Container 'dev' of busybox: 1 cell>>"
