"""`%container use`, the arguments of a body, and the variables in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from traitlets import TraitError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.conftest import Notebook


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's directory."""
    place = tmp_path / "course"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_a_bare_cell_runs_as_use_says(notebook: Notebook, beside: Path) -> None:
    """A cell without an image or a container has the image, the container and the options of `use`."""
    notebook.good("%container use busybox --here --name used -e A=1")
    assert notebook.good("%%container\necho $A; pwd; echo kept > /file").split() == ["1", str(beside)]
    assert notebook.good("%%container\ncat /file") == "kept\n"
    notebook.good("%container rm used")


def test_a_cell_that_names_something_has_nothing_of_it(notebook: Notebook) -> None:
    """With an image or a container of its own, a cell has none of the options of `use`."""
    notebook.good("%container use busybox -e A=1 --name used")
    assert notebook.good("%%container busybox\necho ${A-none}") == "none\n"
    assert notebook.good("%%container busybox --name other\necho ${A-none}") == "none\n"
    assert notebook.good("%%container --name other\necho ${A-none}") == "none\n"
    notebook.good("%container rm other")


def test_the_line_comes_first_then_use_then_traits(notebook: Notebook) -> None:
    """A value on the line counts, then that of `use`, then the trait; lists add up in the other order."""
    notebook.good("%config ContainerMagics.network = 'host'")
    notebook.good("%config ContainerMagics.timeout = 7.0")
    notebook.good("%container use busybox -w /srv -e A=use -e B=use --network private --timeout 9")
    shown = "%%container busybox --workdir /srv --env A=use --env B=use --network private --timeout 9"
    assert notebook.good("%container use").splitlines()[0] == shown
    assert notebook.good(
        "%%container -w /tmp -e B=line --network none\npwd; echo $A $B; ls /sys/class/net"
    ).split() == [
        "/tmp",
        "use",
        "line",
        "lo",
    ]


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("-v {beside}/cell:/work", "cell"),
        ("-v {beside}/cell:/work/", "cell"),
        ("--mount type=bind,src={beside}/cell,dst=//work/.", "cell"),
        ("--tmpfs /work:size=1m", ""),
        ("-v /work", ""),
        ("--cache-dir own:/work", ""),
        ("-v {beside}/cell:/other", "{default}"),
    ],
)
@pytest.mark.parametrize("default", ["use", "trait"])
def test_a_mount_of_the_cell_replaces_a_default(
    notebook: Notebook, beside: Path, own: str, found: str, default: str
) -> None:
    """A mount of a cell is in the place of one of `use` or a trait with the same target; all others add up."""
    for name in ("cell", "use", "trait"):
        (beside / name).mkdir()
        (beside / name / name).touch()
    notebook["beside"] = beside
    notebook.good(f"%config ContainerMagics.volumes = ['{beside}/trait:/work', '{beside}/trait:/also']")
    notebook.good("%container use busybox" + (" -v {beside}/use:/work" if default == "use" else ""))
    found = found.format(default=default)
    assert notebook.good(f"%%container {own}\nls /work /also").split() == ["/also:", "trait", "/work:", *found.split()]


def test_two_mounts_of_one_place_at_a_target_are_refused(notebook: Notebook) -> None:
    """A cell, `use` or a trait that has two mounts at one target fails: neither is the more special one."""
    twice = "UsageError: two mounts have the target /work; remove one of them"
    assert notebook.fails("%%container busybox -v /usr:/work --tmpfs /work\ntrue") == twice
    assert notebook.fails("%container use busybox -v /usr:/work --tmpfs /work") == twice
    magics = notebook.shell.magics_manager.registry["ContainerMagics"]
    with pytest.raises(TraitError, match="two mounts have the target /work"):
        magics.volumes = ["/usr:/work", "/srv:/work"]


def test_a_cell_turns_off_what_use_turns_on(notebook: Notebook) -> None:
    """A flag with `=false` in a cell comes before that of `use`, also if the line was kept from an earlier cell."""
    notebook.good("%container use busybox --read-only")
    for _ in range(2):
        notebook.good("%%container --read-only=false\ntouch /file")
    assert notebook.good("%%container\ntouch /file 2>&1 || echo cannot").endswith("cannot\n")
    notebook.good("%container use busybox --untrusted")
    assert notebook.good("%%container --untrusted=false\ntouch /file && echo made") == "made\n"


def test_volumes_of_all_three_add_up(notebook: Notebook, tmp_path: Path) -> None:
    """The traits' volumes, those of `use` and those of the line are all there."""
    for name in ("trait", "use", "line"):
        (tmp_path / name).mkdir()
    notebook.good(f"%config ContainerMagics.volumes = ['{tmp_path}/trait:/v/trait']")
    notebook.good(f"%container use busybox -v {tmp_path}/use:/v/use")
    assert notebook.good(f"%%container -v {tmp_path}/line:/v/line\nls /v").split() == ["line", "trait", "use"]


def test_a_mount_replaces_a_default_with_its_target(notebook: Notebook, tmp_path: Path) -> None:
    """That of the line counts, then that of `use`, then the trait's; two on one line are an error, as before."""
    for name in ("trait", "use", "line"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    notebook.good(f"%config ContainerMagics.volumes = ['{tmp_path}/trait:/v', '{tmp_path}/trait:/w', '/x', '/y']")
    notebook.good(f"%container use busybox -v {tmp_path}/use:/v/:ro --tmpfs /x:size=1m")
    show = "ls /v /w; grep -c tmpfs.*/x /proc/mounts; df /x | grep -c 1024"
    assert notebook.good(f"%%container\n{show}").split() == ["/v:", "use", "/w:", "trait", "1", "1"]
    line = f"--mount type=bind,src={tmp_path}/line,dst=/v --tmpfs /w"
    assert notebook.good(f"%%container {line}\nls /v /w").split() == ["/v:", "line", "/w:"]
    assert "two mounts have the target /v" in notebook.fails(f"%%container {line} --tmpfs /v\ntrue")
    notebook.good("%container use busybox --cache-dir pip:/v")
    notebook.good("%%container\ntouch /v/cached")
    assert notebook.good("%%container -v /v\nls /v") == ""


def test_use_is_shown_and_cleared(notebook: Notebook) -> None:
    """It is shown as a line that does the same, and cleared; the traits remain."""
    assert "nothing is set" in notebook.good("%container use")
    notebook.good("%container use host --here --name work --network private -e 'A={{x}} y'")
    shown = notebook.good("%container use").splitlines(keepends=True)[0]
    assert shown == "%%container host --here --name work --network private --env 'A={{x}} y'\n"
    notebook.good("%container use --reset")
    assert "nothing is set" in notebook.good("%container use")
    assert "missing image" in notebook.fails("%%container\ntrue")
    notebook.good("%config ContainerMagics.image = 'busybox'")
    assert notebook.good("%container use").splitlines()[0] == "%%container busybox"


def test_a_new_use_replaces_the_old_one(notebook: Notebook) -> None:
    """Nothing of an earlier `use` remains, and one that is wrong changes nothing."""
    notebook.good("%container use busybox -e A=1")
    notebook.good("%container use busybox -e B=1")
    assert notebook.good("%container use").splitlines()[0] == "%%container busybox --env B=1"
    assert "unknown option" in notebook.fails("%container use busybox --nope")
    assert "missing image" in notebook.fails("%container use --network none")
    assert "unknown network" in notebook.fails("%container use busybox --network lan")
    assert "does not exist" in notebook.fails("%container use busybox -v /nowhere/at/all:/w")
    assert notebook.good("%container use").splitlines()[0] == "%%container busybox --env B=1"


def test_a_refused_directory_is_one_line_for_all_cells(
    notebook: Notebook, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`use` shows the line at once, and the cells after it do not repeat it, until `%cd` changes the reason."""
    monkeypatch.setenv("HOME", str(beside))
    assert "home directory: move it" in notebook.run("%container use busybox --here").stderr
    ran = notebook.run("%%container\npwd")
    assert (ran.stdout, ran.stderr) == ("/\n", "")
    assert "home directory: move it" in notebook.run("%%container --here\npwd").stderr
    notebook.run("%cd /")
    assert "the notebook is in /" in notebook.run("%%container\npwd").stderr


def test_a_body_has_arguments(notebook: Notebook) -> None:
    """`-s` ends the options; what follows are the body's `$1` and so on, for the shell and for another interpreter."""
    notebook["x"] = "one"
    assert notebook.good('%%container busybox -s {x} two\necho "$1 $2"') == "one two\n"
    assert notebook.good('%%container busybox -s "$x y" --here \'$x\'\necho "$1,$2,$3,$#"') == "one y,--here,$x,3\n"
    assert notebook.good('%%container busybox -s a\n#!/bin/ash\necho "$1"') == "a\n"
    notebook.good("%container use busybox")
    assert notebook.good('%%container -s busybox a\necho "$@"') == "busybox a\n"


def test_arguments_without_an_image_say_where_it_stands(notebook: Notebook) -> None:
    """After `-s`, an image is an argument."""
    assert "write IMAGE before -s" in notebook.fails("%%container -s busybox\ntrue")


def test_a_function_has_its_own_variables(notebook: Notebook) -> None:
    """`{x}` and `$x` inside a function mean the function's local x; without one, the notebook's."""
    notebook["x"], notebook["y"] = "global", "outer"
    notebook.good(
        "def call(x):\n"
        "    %container run -e A={x} -e B=$x -e C={y} busybox env\n"
        "def cell(x):\n"
        "    get_ipython().run_cell_magic('container', 'busybox -s {x} {[x for _ in y][0]}', 'echo $@')\n"
    )
    assert {"A=local", "B=local", "C=outer"} <= set(notebook.good("call('local')").split())
    assert notebook.good("cell('here')") == "here here\n"
    assert notebook.good("%%container busybox -s {x}\necho $1") == "global\n"


def test_verbs_of_a_group_have_variables(notebook: Notebook, beside: Path) -> None:
    """`{x}` and `$x` are replaced after `volume` and `cache`, as after other verbs; a value is never an option."""
    notebook["x"] = "data"
    assert str(notebook.run("%container volume create {x}-1 --label 'a=$5' --label=b={x}").value) == "data-1"
    assert notebook.run("%container volume inspect $x-1").value.as_json()["Labels"] == {"a": "$5", "b": "data"}
    notebook.good("%container cache export {x}.results")
    notebook.good("%container cache export 'a$b'")
    assert sorted(path.name for path in beside.iterdir()) == ["a$b", "data.results"]
    notebook["x"] = "--all"
    assert "invalid volume name '--all'" in notebook.fails("%container volume create {x}")
    assert "unknown verb 'volume $x'" in notebook.fails("%container volume '$x'")
    assert "unknown verb '$x'" in notebook.fails("%container '$x'")
    notebook.good("%container volume rm data-1")


def test_explain_takes_a_command_as_it_is(notebook: Notebook) -> None:
    """A dollar sign in quotes reaches the explained command, and braces stay."""
    shown = str(notebook.run("%container explain busybox sh -c 'echo $HOME {x}'").value)
    assert "echo $HOME {x}" in shown


def test_volumes_are_written_as_in_a_shell(
    notebook: Notebook, beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`$PWD` follows `%cd`, and variables and `~` are the notebook's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(beside))
    (beside / "in").mkdir()
    for source in ("$PWD", "${PWD}", ".", "$DATA", "~/course", "$HOME/course"):
        assert notebook.good(f"%%container busybox -v {source}:/w\nls /w") == "in\n"
    assert notebook.good("%%container busybox -v $PWD:$PWD -w $PWD\npwd") == f"{beside}\n"
    notebook.run("%cd in")
    assert notebook.good("%%container busybox -v $PWD:/w\nls /w") == ""


def test_use_says_where_each_setting_comes_from(notebook: Notebook) -> None:
    """Below the line of a cell, each setting has a line with `use` or the trait that set it."""
    notebook.good("%config ContainerMagics.timeout = 7.0")
    notebook.good("%container use busybox -e A=1")
    lines = notebook.good("%container use").splitlines()
    assert lines[0] == "%%container busybox --env A=1 --timeout 7.0"
    assert [line.split()[0] for line in lines[1:]] == ["busybox", "--env", "--timeout"]
    assert ["`%container use`" in line for line in lines[1:]] == [True, True, False]
    assert "ContainerMagics.timeout" in lines[3]


def test_the_magic_alone_shows_verbs_in_groups(notebook: Notebook) -> None:
    """`%container` is short: groups of verbs and the next step; the options are in `%%container?` and `--help`."""
    said = notebook.good("%container")
    assert "clean up:\n" in said
    assert said.splitlines()[-1].startswith("next: ")
    assert "--pids-limit" not in said
    assert "examples:\n  %%container busybox" in notebook.good("%%container --help\n ")
