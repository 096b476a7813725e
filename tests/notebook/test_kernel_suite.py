"""jupyter_kernel_test, the outside suite for kernels: all of it, for each shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import jupyter_kernel_test
import pytest
import zmq

from tests.debian import debian_tar
from tests.notebook.patient_suite import FixtureKernel, PatientTests
from tests.notebook.shell_cells import wait_for
from tests.notebook.shell_kernels import ShellKernel
from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_client.manager import KernelManager


class _Suite(PatientTests):
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


def wait_until_idle(manager: KernelManager) -> None:
    """Returns when a kernel that was just started has sent all that it has: the status of a request comes last.

    It subscribes to the topics of kernels, and not to all: the kernel welcomes the first that subscribes to a topic.
    """
    asking = manager.client()
    asking.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
    with asking.context.socket(zmq.SUB) as topics:
        topics.subscribe(b"kernel")
        topics.connect(asking._make_url("iopub"))
        asked = ""
        while True:
            assert topics.poll(DEADLINE * 1000)
            _, parts = asking.session.feed_identities(topics.recv_multipart())
            message = asking.session.deserialize(parts)
            if message["msg_type"] == "iopub_welcome":  # what is sent from now on arrives
                asked = asking.kernel_info()
            if message["parent_header"].get("msg_id") == asked and message["content"] == {"execution_state": "idle"}:
                break
    asking.stop_channels()


class TestWelcome(FixtureKernel, jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc]
    """A frontend that subscribes is welcomed."""

    support_iopub_welcome = True

    @pytest.fixture(autouse=True)
    def _kernel(self, short_path: Path, store_path: Path, _containers_work: str) -> Iterator[None]:
        require("namespaces", available=not _containers_work, why=_containers_work)
        kernel = ShellKernel(short_path, store_path, ("busybox",))
        kernel.manager.start_kernel(env=kernel.env)  # the first to subscribe is the test
        wait_until_idle(kernel.manager)
        self.km, self.kc = kernel.manager, kernel.manager.client()
        yield
        wait_for(self.kc.hb_channel.is_beating)  # one that is stopped before it has begun never ends
        self.kc.stop_channels()
        kernel.manager.shutdown_kernel(now=True)
