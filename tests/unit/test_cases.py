"""The inputs that once failed, by the names under which they were reported, and the test that has each of them now."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

_WORLD = "linux/test_images_of_the_world.py"
_DOCKER = "cli/test_docker_options.py"
_FIRST = "notebook/test_first_minutes.py"
_INSIDE = "linux/test_expectations.py"

ARCHIVES = {
    "aufs-metadata": f"{_WORLD}::test_aufs_records_are_left_out",
    "chart-beside": f"{_WORLD}::test_it_loads_and_runs",
    "config-octet-stream": f"{_WORLD}::test_it_loads_and_runs",
    "docker-1.9-save": f"{_WORLD}::test_the_old_format_has_its_name",
    "docker-two-by-digest": f"{_WORLD}::test_two_images_without_names",
    "docker25-index-null": f"{_WORLD}::test_it_loads_and_runs",
    "dotdot-inside": f"{_WORLD}::test_dots_that_stay_inside",
    "empty-layer-0-bytes": f"{_WORLD}::test_it_loads_and_runs",
    "entry-without-name": f"{_WORLD}::test_it_loads_and_runs",
    "layer-foreign-docker": f"{_WORLD}::test_it_loads_and_runs",
    "no-end-mark": f"{_WORLD}::test_no_end_mark",
    "no-layers": f"{_WORLD}::test_no_layers",
    "one-tag-two-platforms": f"{_WORLD}::test_it_loads_and_runs",
    "owner-197609": f"{_WORLD}::test_an_owner_above_65535",
    "sha512": f"{_WORLD}::test_it_loads_and_runs",
    "signature-beside": f"{_WORLD}::test_it_loads_and_runs",
    "two-untagged": f"{_WORLD}::test_two_images_without_names",
    "user-1000660000": f"{_WORLD}::test_a_user_above_65535",
}
"""Files in tests/linux/images, without their suffixes."""

CASES = {
    **ARCHIVES,
    "bad-address": "unit/images/registry/test_registry.py::test_an_address_that_is_none_is_refused",
    "deep-path": "unit/images/layers/test_extractor.py::test_a_deep_path_takes_time_with_its_depth",
    "df-while-removing": "linux/test_growth.py::test_disk_usage_does_not_fail_beside_removals",
    "diff-of-removals": "linux/test_growth.py::test_diff_of_removed_files_is_linear",
    "link-as-source": "attacks/test_host_paths.py::test_no_link_of_a_cells_leads_a_volume_elsewhere",
    "output-through-a-link": "attacks/test_outputs.py::test_no_link_of_a_cells_leads_an_output_elsewhere",
    "pinned-name": "attacks/test_names.py::test_no_image_runs_by_a_digest_that_is_not_its_own",
    "rm-many": "linux/test_growth.py::test_removing_containers_reads_each_record_a_few_times",
    "stopped-for-ever": "attacks/test_pauses.py::test_a_container_goes_on_when_its_copy_is_killed",
    "wrong-size": "attacks/test_names.py::test_no_image_states_a_false_size_for_a_layer_that_is_there",
    "change-env": f"{_DOCKER}::test_a_change_of_path_keeps_the_images_programs",
    "change-volume": f"{_DOCKER}::test_docker_commits_instructions_are_taken",
    "entrypoint": f"{_DOCKER}::test_an_entrypoint_is_replaced_or_removed",
    "mount-option": f"{_DOCKER}::test_a_bind_mount_by_mount",
    "named-volume": f"{_DOCKER}::test_a_named_volume_is_kept",
    "tmpfs-options": f"{_DOCKER}::test_options_of_a_tmpfs",
    "tmpfs-percent-and-uid": f"{_DOCKER}::test_options_of_a_tmpfs",
    "trailing-space": f"{_DOCKER}::test_the_end_of_a_line_in_an_env_file_is_kept",
    "volume-options": f"{_DOCKER}::test_options_of_a_volume",
    "volume-with-a-mount-in-it": f"{_DOCKER}::test_a_volume_with_a_mount_of_proc_in_it_shows_its_files",
    "mtab": f"{_INSIDE}::test_the_mounts_are_in_mtab",
    "own-name": f"{_INSIDE}::test_the_own_name_is_found_and_nothing_is_written",
    "ping": f"{_INSIDE}::test_echo_requests_need_no_raw_socket",
    "proc-1-fd-1": f"{_INSIDE}::test_output_by_process_1_is_the_cells",
    "b01-beside-the-notebook": f"{_FIRST}::test_b01_beside_the_notebook",
    "b02-bash-words": f"{_FIRST}::test_b02_bash_words",
    "b03-git-identity": f"{_FIRST}::test_b03_git_identity",
    "b05-what-one-cell-left": f"{_FIRST}::test_b05_what_one_cell_left",
    "b07-shell-kernel": "notebook/test_kernel_install.py::test_the_notebooks_directory_is_shown_by_default",
    "b09-arguments-of-the-script": f"{_FIRST}::test_b09_arguments_of_the_script",
    "b10-in-the-background": f"{_FIRST}::test_b10_in_the_background",
    "b12-error-in-a-process-pool": f"{_FIRST}::test_b12_error_in_a_process_pool",
    "b13-result-in-a-process-pool": f"{_FIRST}::test_b13_result_in_a_process_pool",
    "b15-workdir-that-is-nowhere": f"{_FIRST}::test_b15_workdir_that_is_nowhere",
    "b17-question-mark": "notebook/test_kernel_words.py::test_a_question_about_the_magic_shows_its_options",
    "b19-install-user": "notebook/test_kernel_install.py::test_a_kernel_is_installed_for_this_user",
    "b20-exclamation-mark": "notebook/test_kernel_words.py::test_a_command_with_a_bang_is_run_by_the_shell",
    "b21-note-about-ctrl-c": "notebook/test_provisioner.py::test_a_kernel_writes_nothing_to_the_servers_log",
}


def names_of_tests(path: Path) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(path.read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name for node in found if node.name.startswith("test_")}


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_test(case: str) -> None:
    """The test that the table names is there."""
    file, _, name = CASES[case].partition("::")
    assert name in names_of_tests(TESTS / file)


def test_each_archive_is_in_the_table_and_in_its_test() -> None:
    """Each file in tests/linux/images has a line here, and the file of its test names it."""
    files = {path.name.partition(".")[0] for path in (TESTS / "linux/images").iterdir()}
    assert files == {name.partition(".")[0] for name in ARCHIVES}
    for name in ARCHIVES:
        assert f'"{name}' in (TESTS / _WORLD).read_text(), name
