"""`!command` in the kernel's cells."""

from __future__ import annotations

import pytest

from nbcontainer.notebook.kernel.language.bang import without_bangs


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("!ls / | head", "ls / | head"),
        ("cd /\n!ls\n  !pwd", "cd /\nls\n  pwd"),
        ("# it's\n!ls", "# it's\nls"),
        ("echo a#'\n!x'\n!ls", "echo a#'\n!x'\nls"),
        ("cat <<<END\n!ls", "cat <<<END\nls"),
        ("cat <<END\n!x\nEND\n!ls", "cat <<END\n!x\nEND\nls"),
        ("cat <<A <<B\n!1\nA\n!2\nB\n!ls", "cat <<A <<B\n!1\nA\n!2\nB\nls"),
        ("cat <<-'END'\n!x\n\tEND\n!ls", "cat <<-'END'\n!x\n\tEND\nls"),
        ("echo $((1<<2))\n!ls", "echo $((1<<2))\nls"),
    ],
)
def test_a_command_loses_its_bang(code: str, found: str) -> None:
    """A line that begins with `!command` is the command, also after quotes, comments and here-documents."""
    assert without_bangs(code) == found


@pytest.mark.parametrize(
    "code",
    [
        "! grep -q x file",
        "!(a|b)",
        "!",
        "!!",
        "echo a !b",
        "echo a \\\n!b",
        "echo 'a\n!b'",
        'echo "a\\"\n!b"',
        "cat <<END\n!x\n",
        "cat <<\\END\n!x\nEND",
        "",
    ],
)
def test_other_bangs_stay(code: str) -> None:
    """Negations, patterns, and lines that are the text of a string or of a here-document are the shell's."""
    assert without_bangs(code) == code
