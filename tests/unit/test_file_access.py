"""Every function of the host's side that takes a file by its path is listed here, with the reason why it may.

What a container can write, it can replace by a link, a pipe or a device. So the host's side opens such files by a name
in an open directory (`dir_fd=`, openat2(2)) and follows no link. A function that takes a path must have one that no
container can change: it has a line in `KNOWN`. A new one fails here until its author has looked at it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # the same for every user

PACKAGE = Path(__file__).parents[2] / "nbcontainer"

PLACES = ("api.py", "commands", "containers", "images", "mapping", "notebook", "runs", "sandbox", "store", "values")
"""Packages whose functions run in the notebook and may meet files of containers."""

INSIDE = (
    "containers/live/scripts",
    "images/comparison/tree_facts.py",
    "images/cow",
    "images/layers/changes.py",
    "images/layers/flat",
    "images/layers/pack.py",
    "images/layers/tree.py",
    "images/sandboxed.py",
    "mapping/inside.py",
    "sandbox/cgroups",
    "sandbox/helper",
    "sandbox/launcher",
    "sandbox/network",
    "sandbox/steps",
    "sandbox/userns",
)
"""Code that runs in a container, a sandbox or the launcher, which `tests/attacks` attack, or on files of the kernel."""

METHODS = frozenset(
    "open read_text read_bytes write_text write_bytes iterdir glob rglob unlink rename rmdir mkdir touch exists "
    "is_file is_dir is_symlink is_socket is_fifo lstat stat readlink symlink_to hardlink_to chmod".split()
)
"""Methods of `Path`."""

OF_OS = frozenset(
    "open stat lstat listdir scandir walk unlink remove rename replace rmdir mkdir makedirs link symlink readlink "
    "chmod chown lchown utime truncate mkfifo mknod access getxattr setxattr listxattr removexattr".split()
)
OF_OS_PATH = frozenset("exists isfile isdir islink lexists getsize realpath samefile getmtime".split())
BY_DESCRIPTOR = frozenset({"dir_fd", "src_dir_fd", "dst_dir_fd"})

STORE = "a directory of the store that no container sees; a layer's or a volume's own files are beside what it sees"
WRITES = "the directories that overlay has as upper and work: a container sees what is in them, and never their names"
PROC = "files of the kernel, by the number of a process"
USERS = "a path that the user wrote, or of the user's own files: it is only asked for, or opened by `linux.paths`"
OWN = "files of this package or of the system, and programs in absolute directories of PATH"
MACHINE = "the host's directories: only names, types and modes are asked for; contents are read by descriptor"
PROBES = "files of the kernel, or those that doctor has made for its probes, which run no program of others"
KERNELS = "a kernel's own directory, in which the container has one directory, and Jupyter's directories"
CHECKED = "a directory or a file is opened without following its last link, and what is below it by descriptor"

KNOWN = {
    STORE: """
        _wait_until_free _make _secret.read _secret content_of_layer ReplayedOutput.__init__
        _export _add problems Use.hit settle sweep _drop_anonymous _drop_contents drop_undone end_session _packed
        changes_of Container.save Container._save_isolation Container.rename _check_reachable read_notes
        read_moved_back squeezed usage _records _size Engine.close Flattening._fill read check_containers _of_record
        _missing Job._opened_log Log._opened Log._rotate LogReader._open LogReader._is_current _growth
        _job_to_follow has
        ExecServer.close short_path list_all create get remove _ready _own _fill _locked _check_same read_record
        _read_pin save_pin mark_lost _unmark save_record forget_unrecorded records check_free _discard_doubtful
        move_to_tmp frozen_copy _hold _add_copy _copy_upper _place _around read_blob WorkerImages._bring PauseFile.take
        PauseFile.remove resume_left FloodGate._spill FloodGate._give_up _rename _note_end with_noted_end _note_signal
        was_signalled
        _Restored.volume Partial._is_new_beside_stored Container.applying finish finish_all
        recall DockerArchive._open directories merge_parts _size_here _is_whole Images.collect
        StagedTree.adopt Staging.scratch _discard_memory remove_tree remove_own _check _existing_path
        replace_file sync_directory Blobs.read Blobs.digests Blobs.write Blobs.adopt_all
        Cache._content Cache.write Cache.names Cache._layer Cache.remove mark flush recover take _read _write
        Index.create Index.catalog Index.tag Index._entries Journals.names Journals.append Journals.sync Journals.size
        Journals.replace Journals.remove Journals.share Journals.is_shared Journals._open
        Layers.find Layers.name Layers.adopt Layers.begin Layers.finish Layers.is_unfinished Layers.share
        Layers.is_private Store._make Store._check_layout Store._make_below Store._check_is_store_or_empty
        Store._check_attributes Store._mark_attributes
        Store._close_to_others Store.incoming Store.new_directory Store.use_memory open_lock _is_at make_open keep_open
        Partial._prepare Partial._open Partial.restart Partial.adopt Partial.close left_over release
        CleanMark.holds CleanMark.remove _time_of Sessions._begin Sessions.close Sessions.dead Sessions.alive
        Sessions.states Presence._open keep remember forget get_from_running _content Neighbours._opened
        _let_cells_start
    """,
    WRITES: """
        LimitedWriteLayer.remove _mode WriteView._has_something WriteLayer.used
        WriteLayer._make WriteLayer._like WriteLayer.remove_mount_points WriteLayer.keep WriteLayer._strip
        WriteLayer.remove WriteLayer._remove_links _is_gone _remove_work _empty_work
        _remove_empty WriteLayer.replace_uppers WriteView.examine
        LimitedWriteLayer._make WriteView._root_changed WriteLayer._match_lower
        match changed _attributes _kept_names ReusedLayers._renewed RootMount.__init__
        RootMount.renew _mark tells_changes
    """,
    PROC: """
        _facts _command Machine.descriptors _text _here _number JoinWatch._is_blocked
        _has_one_of
        JoinWatch._init_is_blocked _locked_by Terminal.is_open_as Terminal._wait_of _threads _memory _in_epoll
        Standstill._seize boot_id _boot_in
    """,
    USERS: """
        host_paths machine_like _nodes _hidden_paths _missing_programs _save _verify _of_file
        _input _certificates _plain beside in_home
        _workdir History._open put CellFiles._input run_inside ContainerMagics._opened
        Images._find_name open_file check configuration_files _context Workspace.__init__
    """,
    MACHINE: """
        surroundings survey _Survey.show _Survey.reveal _Survey._entry _Survey._open _Survey._mode _Survey._real
        _Survey._search _Hidden.__init__ _Hidden.__call__
        _place_reason _same _homes _writer_reason _writers _has_acl open_standard_files
    """,
    OWN: """
        CellFiles.open_null_streams _null JoinedStreams._input _input _script program packed_cloudpickle _tar_of
        is_static _from_debian
    """,
    PROBES: """
        ProbeEnvironment._place ProbeEnvironment._fill ProbeEnvironment._close_to_others ProbeEnvironment._give
        ProbeEnvironment.run ProbeEnvironment.map_volume _nearest make_lower open_terminal change_lower discard
        Machine.nested namespace_advice
    """,
    KERNELS: """
        install installed write _replace_files remove _unfinished _remove_unfinished _check_runtime
        ContainerProvisioner.pre_launch ContainerProvisioner._remove_folder _runtime_directory
    """,
    CHECKED: """
        content_of _opened run _is_empty _volume _forget LayerTree._open _walk _is_there _is_deletion
        UntrustedDirectory.__init__ UntrustedDirectory.folders open_null _add
    """,
}


def by_path(call: ast.Call) -> str:
    """The name of a function that takes a file by its path; empty for every other call, and with a descriptor."""
    function = call.func
    if any(keyword.arg in BY_DESCRIPTOR for keyword in call.keywords):
        return ""
    if isinstance(function, ast.Name):
        return "open" if function.id == "open" and not _is_descriptor(call) else ""
    if not isinstance(function, ast.Attribute):
        return ""
    owner, name = ast.unparse(function.value), function.attr
    if owner == "os":
        return f"os.{name}" if name in OF_OS and not _is_descriptor(call) else ""
    if owner == "os.path":
        return f"os.path.{name}" if name in OF_OS_PATH else ""
    if owner == "shutil":
        return f"shutil.{name}" if name not in ("which", "get_terminal_size") else ""
    if owner in ("Image", "webbrowser") or owner.endswith("kernel") or owner == "self":
        return ""  # other things that are opened, and methods of the class itself
    return name if name in METHODS or (name == "replace" and len(call.args) == 1 and not call.keywords) else ""


def _is_descriptor(call: ast.Call) -> bool:
    """Whether the first argument is a descriptor by its name."""
    return bool(call.args) and ast.unparse(call.args[0]).rpartition(".")[2].strip("_") in ("fd", "tar", "directory")


def calls(node: ast.AST, place: str = "") -> Iterator[tuple[str, str]]:
    """Each function that takes a file by its path (`Class.method`), and what it calls."""
    for below in ast.iter_child_nodes(node):
        inner = place
        if isinstance(below, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{below.name}".lstrip(".")
        if isinstance(below, ast.Call) and (called := by_path(below)):
            yield place, called
        yield from calls(below, inner)


def found() -> Iterator[tuple[str, str, str]]:
    """Each of these functions in the package: its file, its name, and what it calls."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE))
        if file.startswith(PLACES) and not file.startswith(INSIDE):
            yield from ((file, name, called) for name, called in calls(ast.parse(path.read_text())))


def test_every_function_that_takes_a_path_is_known() -> None:
    """A new one opens by descriptor, or gets a line in `KNOWN` with its reason, after a test in `tests/attacks`."""
    known = {name for names in KNOWN.values() for name in names.split()}
    new = [f"{file}: {name} calls {called}" for file, name, called in found() if name not in known]
    assert not new, "\n".join(
        ["open these by descriptor, or add them to KNOWN with a reason: no container can change the path", *new]
    )


def test_every_known_function_is_there() -> None:
    """A line whose function is gone goes, so that no other function gets its reason."""
    there = {name for _, name, _ in found()}
    gone = sorted(name for names in KNOWN.values() for name in names.split() if name not in there)
    assert not gone, f"remove these from KNOWN, they take no path: {' '.join(gone)}"


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("(a / 'b').read_text()", "read_text"),
        ("open(path)", "open"),
        ("os.open(path, 0)", "os.open"),
        ("os.path.exists(path)", "os.path.exists"),
        ("shutil.rmtree(path)", "shutil.rmtree"),
        ("path.replace(other)", "replace"),
        ("os.open(name, 0, dir_fd=fd)", ""),
        ("os.scandir(fd)", ""),
        ("open(self._fd)", ""),
        ("text.replace('a', 'b')", ""),
        ("kernel.open(path, 0)", ""),
    ],
)
def test_what_counts(source: str, called: str) -> None:
    """Calls by path count, calls by descriptor do not."""
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert by_path(call) == called
