"""Loading the extension, loading it again, and taking it out."""

from __future__ import annotations

import ast
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers import engine as engines
from nbcontainer.containers.engine import Engine
from nbcontainer.linux.procfs import children
from nbcontainer.notebook.magics import ContainerMagics
from tests.running import all_dead, beginners, descendants, pidfds

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from tests.notebook.conftest import Notebook


@pytest.fixture(autouse=True)
def _a_store_of_the_tests(monkeypatch: pytest.MonkeyPatch, store_path: Path) -> None:
    """An engine that is opened anew is on the tests' store."""
    monkeypatch.setenv("NBCONTAINER_HOME", str(store_path))


def launchers() -> set[int]:
    """The children of this process that are launchers or their servers; inits have the same name at first."""
    found = set()
    for pid in children(os.getpid()):
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/comm").read_text() == "nbcontainer\n":
                found.add(pid)
    return found


def names(shell: InteractiveShell) -> set[str]:
    known = shell.magics_manager.magics
    return {f"%{name}" for name in known["line"]} | {f"%%{name}" for name in known["cell"]}


def test_loading_twice_starts_one_launcher(notebook: Notebook, engine: Engine) -> None:
    """`%load_ext` again changes nothing: the same magics, on the same launcher."""
    launcher, before = engine.launcher.pid, launchers()
    magics = notebook.shell.magics_manager.registry["ContainerMagics"]
    notebook.run("%load_ext nbcontainer")
    from nbcontainer import load_ipython_extension

    load_ipython_extension(notebook.shell)
    assert notebook.shell.magics_manager.registry["ContainerMagics"] is magics
    assert [c for c in notebook.shell.configurables if isinstance(c, ContainerMagics)] == [magics]
    assert engine.launcher.pid == launcher
    assert launcher in before
    assert launchers() == before


def test_unloading_leaves_nothing(shell: InteractiveShell, engine: Engine) -> None:
    """`%unload_ext` takes away the magics, the configuration and the launcher with all that it started."""
    engines.set_default_engine(engine)
    shell.run_line_magic("load_ext", "nbcontainer")  # IPython makes some things of its own at their first use
    shell.run_line_magic("unload_ext", "nbcontainer")
    engine = Engine(engine.store.path)
    engines.set_default_engine(engine)
    before = names(shell), list(shell.configurables), dict(shell.magics_manager.registry), descendants(os.getpid())
    matchers = list(shell.Completer.custom_matchers)
    heard = {name: list(known) for name, known in shell.events.callbacks.items()}
    shell.run_line_magic("load_ext", "nbcontainer")
    assert names(shell) - before[0] == {"%container", "%%container", "%commit", "%undo", "%redo"}
    shell.run_cell_magic("container", "busybox", "true")  # type: ignore[no-untyped-call]
    below = pidfds(descendants(os.getpid()) - before[3])
    assert below
    shell.run_line_magic("unload_ext", "nbcontainer")
    assert all_dead(below)
    after = names(shell), list(shell.configurables), dict(shell.magics_manager.registry), descendants(os.getpid())
    assert after == before
    assert matchers == list(shell.Completer.custom_matchers)
    assert heard == shell.events.callbacks
    assert engine.closed
    assert not (engine.store.path / "sessions" / engine.store.session).exists()
    shell.run_line_magic("unload_ext", "nbcontainer")


def test_a_cell_is_expected_before_it_is_read(
    notebook: Notebook, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container for a `%%container` cell wakes up while IPython still compiles the cell; for no other cell."""
    heard = []

    class Listening(ast.NodeTransformer):
        def visit_Module(self, node: ast.Module) -> ast.Module:
            heard.append("compiled")
            return node

    monkeypatch.setattr(engine, "wake", lambda: heard.append("expected"))
    monkeypatch.setattr(notebook.shell, "ast_transformers", [Listening()])
    notebook.good("print()")
    notebook.good("%%container busybox\ntrue")
    assert heard == ["compiled", "expected", "compiled"]


def test_the_next_container_is_made_when_the_cell_is_over(
    notebook: Notebook, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is prepared for the next cell is not in the way of the end of this one, and is not forgotten."""
    engine.background.wait()  # what loading the extension prepared
    heard = []
    prewarm = engine.prewarm

    def asked(*words: Any) -> None:
        heard.append("asked")
        prewarm(*words)

    def over(_: object) -> None:
        heard.append("over")

    monkeypatch.setattr(engine, "prewarm", asked)
    monkeypatch.setattr(engine._warm, "prepare", lambda *_, **__: heard.append("made"))
    notebook.shell.events.callbacks["post_run_cell"].insert(0, over)
    try:
        notebook.good("%%container busybox\ntrue")
    finally:
        notebook.shell.events.unregister("post_run_cell", over)
    engine.background.wait()
    assert heard == ["asked", "over", "made"]


def test_reloading_starts_anew(notebook: Notebook, engine: Engine) -> None:
    """`%reload_ext` ends the old launcher and goes on with a new one; named containers are still there."""
    notebook.good("%%container busybox --name dev\necho kept > /file")
    old = beginners(engine.launcher)
    others, gone = launchers() - old, pidfds(old)
    notebook.good("%reload_ext nbcontainer")
    assert all_dead(gone)
    assert notebook.good("%%container --name dev\ncat /file") == "kept\n"
    assert launchers() - others == beginners(engines.default_engine().launcher)
    notebook.good("%container rm dev")


def test_defaults_can_be_configured(notebook: Notebook, tmp_path: Path) -> None:
    """`%config ContainerMagics` sets the image, volumes, network and time limit of cells that do not say."""
    assert notebook.fails("%%container\necho").startswith("UsageError: missing image; name one")
    notebook.good("%config ContainerMagics.image = 'busybox'")
    assert notebook.good("%%container\necho here") == "here\n"
    (tmp_path / "file").write_text("found\n")
    notebook.shell.run_line_magic("config", f"ContainerMagics.volumes = ['{tmp_path}:/d:ro']")
    assert notebook.good("%%container\ncat /d/file") == "found\n"
    notebook["place"] = tmp_path
    assert notebook.good("%%container -v {place}:/too:ro\ncat /d/file /too/file") == "found\n" * 2
    notebook.good("%config ContainerMagics.timeout = 0.3")
    assert "time limit (" in notebook.fails("%%container\nsleep 100")
    assert notebook.good("%%container --timeout 1m\nsleep 0.5; echo over") == "over\n"
    notebook.good("%config ContainerMagics.timeout = 0")
    notebook.good("%config ContainerMagics.network = 'host'")
    assert notebook.good("%%container\nreadlink /proc/self/ns/net | wc -l") == "1\n"
    notebook.good("%config ContainerMagics.network = 'none'")
    notebook.good("%config ContainerMagics.raise_error = False")
    assert notebook.good("%%container\necho out; exit 3") == "out\n"


def test_a_default_does_not_stop_a_named_container(notebook: Notebook) -> None:
    """A configured image is for cells that name neither an image nor a container: a named one keeps its own."""
    notebook.good("%%container busybox --name dev\ntrue")
    notebook.good("%config ContainerMagics.image = 'another'")
    assert notebook.good("%%container --name dev\necho on") == "on\n"
    notebook.good("%container rm dev")


def test_the_page_has_a_limit(notebook: Notebook) -> None:
    """Output past `output_limit` is cut in the middle, and all of it is in the file that is named."""
    notebook.good("%config ContainerMagics.output_limit = 1000")
    said = notebook.good("%%container busybox\nseq 100000")
    assert said.startswith("1\n2\n")
    assert "\n99999\n100000\n" in said
    assert len(said) < 20_000
    path = said.split(" bytes of output are in ")[1].split(" until ")[0]
    assert Path(path).read_text() == "".join(f"{number}\n" for number in range(1, 100_001))


def test_a_store_is_the_same_by_each_way_of_writing_it(notebook: Notebook, tmp_path: Path) -> None:
    """Links, `..` and a slash at the end: a notebook has one engine on a store, also after it has been elsewhere."""
    magics = notebook.shell.magics_manager.registry["ContainerMagics"]
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    engines = set()
    for place in ("mine/", "mine", "link", "mine/../mine", "other", "mine/"):
        magics.store = f"{tmp_path}/{place}"
        notebook.good("%%container busybox --name dev --live\ntrue")
        engines.add(magics.engine)
        assert magics.engine is magics.engine
    assert len(engines) == 2
    magics.store = "~nosuch/x"
    assert "no such user" in notebook.fails("%%container busybox\ntrue")
    magics.store = ""
    for engine in engines:
        engine.close()


def test_another_store_can_be_configured(notebook: Notebook, tmp_path: Path) -> None:
    """`ContainerMagics.store` moves the notebook to a store of its own, and back."""
    notebook.good("%%container busybox --name dev\ntrue")
    notebook.shell.run_line_magic("config", f"ContainerMagics.store = '{tmp_path}/other'")
    assert notebook.run("%container ps").value.rows == ()
    assert notebook.good("%%container busybox\necho here") == "here\n"
    assert (tmp_path / "other" / "oci-layout").exists()
    notebook.good("%config ContainerMagics.store = ''")
    assert [row[0] for row in notebook.run("%container ps").value.rows if row[0] == "dev"] == ["dev"]
    notebook.good("%container rm dev")


def test_a_wrong_configuration_is_one_line(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """The magics are not loaded if the configuration has a wrong value; they are when it is corrected."""
    shell.config.ContainerMagics.volumes = ["a"]
    failed = shell.run_cell("%load_ext nbcontainer")  # type: ignore[no-untyped-call]
    assert "ContainerMagics.volumes: invalid volume 'a'" in str(failed.error_in_exec)
    assert "Traceback" not in capsys.readouterr().out
    assert not [one for one in shell.configurables if isinstance(one, ContainerMagics)]
    assert "container" not in shell.magics_manager.magics["cell"]
    del shell.config.ContainerMagics["volumes"]
    assert shell.run_cell("%load_ext nbcontainer").success  # type: ignore[no-untyped-call]
    shell.run_cell("%unload_ext nbcontainer")  # type: ignore[no-untyped-call]
