"""jupyter_kernel_test, the outside suite for kernels: all of it, for each shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import jupyter_kernel_test
import pytest

from tests.debian import debian_tar
from tests.notebook.shell_kernels import ShellKernel
from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Suite(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    """What every shell's suite has in common."""

    __test__ = False
    shell = ""
    debian = False

    language_name = "bash"
    file_extension = ".sh"
    code_hello_world = "echo hello, world"
    code_stderr = "echo oops >&2"
    completion_samples: ClassVar = [
        {"text": "unali", "matches": {"unalias"}},
        {"text": "cat /etc/pass", "matches": {"/etc/passwd"}},
        {"text": "echo ${HOSTNAM", "matches": {"${HOSTNAME}"}},
    ]
    complete_code_samples: ClassVar = ["echo 1", "if true; then echo; fi", "cat <<END\ntext\nEND", "%container ps"]
    incomplete_code_samples: ClassVar = ["if true; then", "echo 'a", "cat <<END\ntext", "ls |", "f() {", "echo \\"]
    invalid_code_samples: ClassVar = ["for; do", "fi", ")"]
    code_page_something = "cat?"
    code_generate_error = "false"
    code_execute_result: ClassVar = [
        {"code": "%container diff", "result": "no changes"},
        {"code": "%container history", "result": "no cells"},
    ]
    code_display_data: ClassVar = [
        {"code": "printf '<svg/>' | display -t svg", "mime": "text/html"},
        {"code": "printf x > /dev/shm/x.png; display /dev/shm/x.png", "mime": "image/png"},
        {"code": "printf '{}' | display -t json", "mime": "application/json"},
        {"code": "echo '*a*' | display -t markdown", "mime": "text/markdown"},
        {"code": "echo '<b>a</b>' | display -t html", "mime": "text/html"},
        {"code": "echo '$a$' | display -t latex", "mime": "text/latex"},
    ]
    code_history_pattern = "%container dif?"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "cat"
    code_clear_output = "clear"

    @classmethod
    def setUpClass(cls) -> None:
        """The kernel is a fixture's."""

    @classmethod
    def tearDownClass(cls) -> None:
        """The kernel is a fixture's."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _kernel(cls, short_path: Path, store_path: Path, shells_tar: Path, _containers_work: str) -> Iterator[None]:
        require("namespaces", available=not _containers_work, why=_containers_work)
        image = str(debian_tar()) if cls.debian else str(shells_tar) if cls.shell else "busybox"
        with ShellKernel(short_path, store_path, (image,), cls.shell) as kernel:
            cls.km, cls.kc = kernel.manager, kernel.client
            yield


class TestBusybox(_Suite):
    """busybox's ash."""

    __test__ = True


class TestBash(_Suite):
    """bash, in an image with this machine's."""

    __test__ = True
    shell = "bash"


class TestDebian(_Suite):
    """bash, in Debian."""

    __test__ = True
    shell = "bash"
    debian = True
    completion_samples: ClassVar = [
        {"text": "unali", "matches": {"unalias"}},
        {"text": "cat /etc/debian_ver", "matches": {"/etc/debian_version"}},
        {"text": "apt-ge", "matches": {"apt-get"}},
    ]


class TestDash(_Suite):
    """dash, in an image with this machine's."""

    __test__ = True
    shell = "dash"


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc]
    """A frontend that subscribes is welcomed."""

    support_iopub_welcome = True

    @classmethod
    def setUpClass(cls) -> None:
        """The kernel is a fixture's."""

    @classmethod
    def tearDownClass(cls) -> None:
        """The kernel is a fixture's."""

    @pytest.fixture(autouse=True)
    def _kernel(self, short_path: Path, store_path: Path, _containers_work: str) -> Iterator[None]:
        require("namespaces", available=not _containers_work, why=_containers_work)
        kernel = ShellKernel(short_path, store_path, ("busybox",))
        kernel.manager.start_kernel(env=kernel.env)  # the first to subscribe is the test
        asking = kernel.manager.client()
        asking.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
        asking.kernel_info()
        asking.get_shell_msg(timeout=DEADLINE)  # the kernel has sent the status `starting` then
        asking.stop_channels()
        self.km, self.kc = kernel.manager, kernel.manager.client()
        yield
        self.kc.stop_channels()
        kernel.manager.shutdown_kernel(now=True)
