"""`from nbcontainer import lab` in a notebook."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

import pytest

from nbcontainer import lab
from nbcontainer.containers.engine import set_default_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


@pytest.fixture
def _default(engine: Engine) -> Iterator[None]:
    """The test's engine is the default one."""
    set_default_engine(engine)
    yield
    lab.laboratory().close()
    set_default_engine(None)


@pytest.mark.usefixtures("_default")
def test_the_examples_of_help_work() -> None:
    """What `help(lab)` shows is what happens."""
    found = doctest.testmod(lab)
    assert found.failed == 0
    assert found.attempted >= 5


@pytest.mark.usefixtures("_default")
def test_a_student_meets_the_reasons_of_the_kernel(notebook: Notebook) -> None:
    """Each error says which condition does not hold, in one line, and the next call works once it does."""
    notebook.good("from nbcontainer import lab; lab.reset(); _ = lab.sh('mkdir -p new/old; cp -a /bin new')")
    assert "/lab/new is not a mount point" in notebook.fails("lab.pivot_root('new', 'new/old')")
    notebook.good("lab.bind('new', 'new'); lab.propagation('/', 'shared')")
    assert "is shared" in notebook.fails("lab.pivot_root('new', 'new/old')")
    notebook.good("lab.propagation('/', 'private')")
    assert "does not exist" in notebook.fails("lab.pivot_root('new', 'nowhere')")
    notebook.good("lab.pivot_root('new', 'new/old')")
    assert notebook.good("print(lab.sh('ls /'))").split() == ["bin", "old"]
    notebook.good("lab.umount('/old', lazy=True)")
    assert notebook.good("print(lab.sh('ls /old; echo $?'))").split() == ["0"]


@pytest.mark.usefixtures("_default")
def test_the_tree_made_by_hand_is_the_tree_of_the_magic(notebook: Notebook) -> None:
    """An overlay and a volume by hand, and the same by `%%container`, show the same files."""
    notebook.good(
        "from nbcontainer import lab; lab.reset()\n"
        "_ = lab.sh('mkdir -p image upper work root data; cp -a /bin image; mkdir image/etc image/data')\n"
        "_ = lab.sh('echo x > image/etc/a; echo y > data/f')\n"
        "lab.mount_overlay('image', 'upper', 'work', 'root'); lab.bind('data', 'root/data', read_only=True)\n"
        "_ = lab.sh('rm root/etc/a; echo new > root/etc/b; echo z > root/data/f')"
    )
    assert notebook.good("print(lab.sh('ls root/etc; cat root/data/f; ls upper/etc'))").split() == ["b", "y", "a", "b"]
    assert notebook.run("lab.draw()").value.as_json()[-1]["read_only"] is True


@pytest.mark.usefixtures("_default")
def test_a_step_is_left_out(notebook: Notebook) -> None:
    """The plan of a run with its options, and what becomes reachable."""
    notebook.good("from nbcontainer import lab")
    assert "the-secret-of-the-host" not in str(notebook.run("lab.run('cat /home/alice/secret.txt')").value)
    assert "the-secret-of-the-host" in repr(
        notebook.run("lab.run('cat /home/alice/secret.txt', without='PivotRoot')").value
    )
    said = notebook.fails("lab.run('true', without='Pivot')")
    assert "the plan has no step Pivot" in said
    assert notebook.run("lab.run('hostname', hostname='box')").value.output == "box\n"
    assert "cannot start" in repr(notebook.run("lab.run('true', without='MountOverlay')").value)
