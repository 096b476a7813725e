"""jupyter_kernel_test, which waits for the messages of a request, and not for a tenth of a second."""

from __future__ import annotations

from typing import Any

import jupyter_kernel_test
from jupyter_kernel_test.msgspec_v5 import validate_message  # type: ignore[import-untyped]

from tests.running import DEADLINE


class FixtureKernel:
    """For tests whose kernel a fixture starts and ends."""

    @classmethod
    def setUpClass(cls) -> None:
        """The kernel is a fixture's."""

    @classmethod
    def tearDownClass(cls) -> None:
        """The kernel is a fixture's."""


class PatientTests(FixtureKernel, jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    """The tests of the suite. A kernel sends idle after its reply, by another thread, when that has a processor."""

    __test__ = False

    def execute_helper(
        self,
        code: str,
        timeout: float = DEADLINE,
        silent: bool = False,
        store_history: bool = True,
        stop_on_error: bool = True,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The reply to a request, and the messages that it led to, from busy to idle but for the input."""
        asked = self.kc.execute(code, silent=silent, store_history=store_history, stop_on_error=stop_on_error)
        reply = self.get_non_kernel_info_reply(timeout=timeout)
        assert reply is not None
        validate_message(reply, "execute_reply", asked)
        states, outputs = [], []
        while "idle" not in states:
            message = self.kc.get_iopub_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") != asked:  # what came late of the request before
                continue
            kind, content = message["msg_type"], message["content"]
            validate_message(message, kind, asked)
            if kind == "status":
                states.append(content["execution_state"])
            elif kind == "execute_input":
                assert content["code"] == code
            else:
                assert states == ["busy"]
                outputs.append(message)
        assert states == ["busy", "idle"]
        return reply, outputs
