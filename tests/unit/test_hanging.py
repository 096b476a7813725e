"""The watch on tests that hang: where no time limit ends a test, its process says where it is, and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HANGS = {
    "the teardown after a failure": """
@pytest.fixture
def late():
    yield
    time.sleep(1000)

def test_fails(late):
    assert False
""",
    "the second try": """
tries = []

def test_fails_and_hangs():
    tries.append(1)
    if len(tries) > 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(1000)
    assert False
""",
    "the end of the process": """
def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("where", HANGS)
def test_what_hangs_ends_its_process_and_says_where(tmp_path: Path, where: str) -> None:
    """A hang after a failure, in a second try or at the end is shown with its stack, and pytest ends."""
    file = tmp_path / "test_inner.py"
    file.write_text(f"import pytest, signal, threading, time\n{HANGS[where]}")
    settings = ["timeout=1", "timeout_func_only=true", "hanging_after=1"]
    words = ["-p", "tests.hanging", *(word for one in settings for word in ("-o", one)), "--reruns=1"]
    code = "import tests.hanging, pytest, sys; tests.hanging.ENDING = 1; sys.exit(pytest.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "--rootdir", str(tmp_path), *words, str(file)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Timeout (0:00:0" in done.stderr, done.stdout + done.stderr
    assert "test_inner.py" in done.stderr or where == "the end of the process"
