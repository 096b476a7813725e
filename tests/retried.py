"""A pytest plugin: what a test that was tried again had failed with, since a retry hides it."""

from __future__ import annotations

from typing import Any

_LINES = 60
"""The most lines of one failure, and of what it wrote to stderr: the end of it."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the failure of each try that was not the last, after a line that begins with `WHY`."""
    retried = terminalreporter.stats.get("rerun", ())
    if not retried:
        return
    terminalreporter.section("failures of tests that were tried again")
    for report in retried:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message.splitlines()[0] if crash is not None and crash.message else "an error"
        terminalreporter.write_line(f"WHY {report.nodeid} ({report.when}): {message}")
        for text in (report.longreprtext, report.capstderr):
            for line in text.splitlines()[-_LINES:]:
                terminalreporter.write_line(f"    {line}")
