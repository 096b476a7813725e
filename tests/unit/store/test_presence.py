"""What several processes do at a time, with a lock that each can ask about."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nbcontainer.store.locks import Presence

if TYPE_CHECKING:
    from pathlib import Path

DOES = """
import sys
from pathlib import Path
from nbcontainer.store.locks import Presence
presence = Presence(Path(sys.argv[1]))
for line in sys.stdin:
    print(getattr(presence, line.strip())(), flush=True)
"""


def call(process: subprocess.Popen[str], name: str) -> str:
    """What the method `name` returns in another process with the same file."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(name, file=process.stdin, flush=True)
    return process.stdout.readline().strip()


def test_another_process_is_seen_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    """Two that do it see each other, one alone sees none, and nothing stays of a process that was killed."""
    presence = Presence(tmp_path / "file")
    argv = [sys.executable, "-c", DOES, str(tmp_path / "file")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert not presence.has_other()
        call(other, "begin")
        assert presence.has_other()
        assert call(other, "has_other") == "False"
        presence.begin()
        assert call(other, "has_other") == "True"
        call(other, "end")
        assert not presence.has_other()
        call(other, "begin")
        assert presence.has_other()
        other.kill()
        other.wait()
        assert not presence.has_other()
    presence.close()


def test_it_counts_within_a_process(tmp_path: Path) -> None:
    """Two of one process see each other; the last end counts, and an end after `close` does nothing."""
    presence = Presence(tmp_path / "file")
    presence.begin()
    assert not presence.has_other()
    presence.begin()
    assert presence.has_other()
    presence.end()
    assert not presence.has_other()
    presence.close()
    presence.end()
    presence.close()


def test_a_child_by_fork_is_another_process(tmp_path: Path) -> None:
    """It sees what its parent does, and ends nothing of it."""
    presence = Presence(tmp_path / "file")
    presence.begin()
    if (child := os.fork()) == 0:
        seen = presence.has_other()
        presence.end()
        presence.begin()
        os._exit(0 if seen else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not presence.has_other()
    assert Presence(tmp_path / "file").has_other()
    presence.close()


def test_an_end_counts_though_a_child_by_fork_runs_on(tmp_path: Path) -> None:
    """The child has the description open, which has the lock, and uses nothing of it."""
    presence, other = Presence(tmp_path / "file"), Presence(tmp_path / "file")
    presence.begin()
    hold, release = os.pipe()
    if (child := os.fork()) == 0:
        os.close(release)
        os.read(hold, 1)
        os._exit(0)
    assert other.has_other()
    presence.end()
    assert not other.has_other()
    os.close(release)
    os.waitpid(child, 0)
    os.close(hold)


def test_what_cannot_be_known_counts_as_another(tmp_path: Path) -> None:
    """Without the file, there may be others; to begin is an error."""
    presence = Presence(tmp_path / "missing" / "file")
    assert presence.has_other()
    with pytest.raises(FileNotFoundError):
        presence.begin()
    (tmp_path / "missing").mkdir()
    presence.begin()
    assert not presence.has_other()
    presence.close()
