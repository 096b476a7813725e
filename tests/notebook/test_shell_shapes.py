"""Cells in the shapes that public courses about the shell have: each prints what a shell at a terminal prints."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.requirements import require

if TYPE_CHECKING:
    from tests.notebook.conftest import Notebook

SHAPES = {
    "here-documents": (
        "cat <<E\na $((1+1))\nE\ncat <<'E'\n$HOME {a}\nE\ncat <<-E\n\ttab\n\tE\n",
        "a 2\n$HOME {a}\ntab\n",
    ),
    "a trap": ("trap 'echo bye' EXIT\necho hi\n", "hi\nbye\n"),
    "background processes": (
        "for i in 3 1 2; do (echo $i >/out$i) & done; wait; cat /out?; echo done\n",
        "1\n2\n3\ndone\n",
    ),
    "the status of one": ("(exit 4) & wait $!; echo $?\nsleep 9 & kill $!; wait $!; echo $?\n", "4\n143\n"),
    "a loop that reads": (
        'printf "a b\\nlast" | while read -r x y || [ "$x" ]; do echo "$y-$x"; done\n',
        "b-a\n-last\n",
    ),
    "no input": ('read x; echo "[$x] $?"\n', "[] 1\n"),
    "lines of Windows": ("echo one\r\nif true; then\r\n  echo two\r\nfi\r\n", "one\ntwo\n"),
    "a long line": (f"x={'y' * 200_000}; echo ${{#x}}\n", "200000\n"),
    "an interpreter": ("#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }\n", "42\n"),
    "other encodings": ("printf 'caf\\351 日本\\n'\n", "caf\ufffd 日本\n"),
    "a pipe with a name": ("mkfifo p; cat p & echo through > p; wait\n", "through\n"),
    "names with spaces": ("mkdir d; touch 'd/a b'; find d -type f -print0 | xargs -0 -n1 basename\n", "a b\n"),
    "braces": ("x=5; echo ${x} $((x*2)) {x} ${y:-none}\n", "5 10 {x} none\n"),
    "options": ("set -- -a 1 -b; while getopts a:b o; do echo $o $OPTARG; done\n", "a 1\nb\n"),
    "only a comment": ("# nothing\n", ""),
}


def test_cells_of_courses(notebook: Notebook) -> None:
    """In the image busybox, whose shell is ash."""
    said = {name: notebook.good(f"%%container busybox\n{cell}") for name, (cell, _) in SHAPES.items()}
    assert said == {name: expected for name, (_, expected) in SHAPES.items()}


OF_BASH = {
    "arrays": ("a=(1 2 3); echo ${#a[@]} ${a[-1]}; declare -A m=([k]=v); echo ${m[k]}\n", "3 3\nv\n"),
    "a pipe's statuses": ("false | true | (exit 3); echo ${PIPESTATUS[@]}\n", "1 0 3\n"),
    "a process as a file": ("mapfile -t l < <(printf 'x\\ny\\n'); echo ${l[1]}\n", "y\n"),
    "a menu": ("select x in p q; do echo $x; break; done <<< 2 2>/dev/null\n", "q\n"),
    "a match": ("[[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}\n", "c\n"),
}


@pytest.mark.parametrize("first", ["%%container host bash\n", "%%container host\n#!/bin/bash\n"])
def test_cells_of_bash(notebook: Notebook, first: str) -> None:
    """With bash as the program of the cell, or in its first line."""
    require("bash")
    said = {name: notebook.good(f"{first}{cell}") for name, (cell, _) in OF_BASH.items()}
    assert said == {name: expected for name, (_, expected) in OF_BASH.items()}


def test_values_with_quotes_in_quotes(notebook: Notebook) -> None:
    """An expression in braces may have quotes of both kinds, and braces of its own."""
    notebook["d"] = {"a": "b c"}
    for word, value in (("{d['a']}", "b c"), ("""{f"<{d['a']}>"}""", "<b c>"), ("""{'it\\'s "q"'}""", 'it\'s "q"')):
        assert notebook.good(f'%%container busybox -e V={word}\necho "$V"') == f"{value}\n"


def test_git_with_and_without_an_identity(notebook: Notebook) -> None:
    """A commit has the name of its options; without one git asks for it."""
    require("git", available=shutil.which("git") is not None, why="git is not installed")
    begin = "%%container host -w /tmp -e HOME=/tmp\ngit init -q r && cd r && echo x > f && git add f && "
    assert notebook.good(f"{begin}git -c user.name=a -c user.email=a@b commit -qm m && git log --format=%an") == "a\n"
    assert notebook.good(f"{begin}git commit -qm m 2>&1 | grep -ci 'tell me who you are'") == "1\n"
