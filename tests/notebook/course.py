"""The shell cells of a course, in the order of its notebooks: git, files, pipes, bash, here-documents, packages.

Each cell depends on those before it, as in courses that are written for `%%bash`. What they print does not depend on
dates and on owners.
"""

from __future__ import annotations

FILES = {
    "table.csv": "name,age\nann,31\nbo,27\ncy,45\n",
    "poem.txt": "roses are red\nviolets are blue\nsugar is sweet\n",
    "lib/greet.sh": 'greet() { echo "hello, $1"; }\n',
    "scripts/sum.py": "import sys\nprint(sum(int(line) for line in sys.stdin))\n",
    "package/pyproject.toml": '[project]\nname = "tiny"\nversion = "1.0"\n',
    "package/tiny.py": "ANSWER = 42\n",
}
"""Files beside the notebook: (path, text)."""

CELLS = (
    # Files beside the notebook
    "ls",
    "wc -l table.csv",
    "cat poem.txt",
    "head -n 2 table.csv | tail -n 1",
    "sort -t, -k2 -n table.csv | tail -n 3 > sorted.csv",
    "cat sorted.csv",
    "cut -d, -f1 sorted.csv | tr '\\n' ' '; echo",
    "mkdir -p data/raw && cp table.csv data/raw && ls -R data",
    "mv sorted.csv data/ && find . -name '*.csv' | sort",
    "grep -c blue poem.txt",
    "sed 's/red/green/' poem.txt > poem2.txt; diff poem.txt poem2.txt",
    "rm poem2.txt && ls *.txt",
    "awk -F, 'NR > 1 { total += $2 } END { print total }' table.csv",
    "pwd | xargs basename | wc -w",
    "du -a data | wc -l",
    # Bash
    "[[ abc == a* ]] && echo yes",
    "names=(x y z); echo ${names[1]} ${#names[@]}",
    "for i in {1..3}; do echo -n $i; done; echo",
    "declare -A ages=([ann]=31 [bo]=27); echo ${ages[bo]}",
    "set -o pipefail; false | true || echo failed",
    "source lib/greet.sh; greet world",
    "diff <(seq 3) <(seq 4)",
    "pushd data > /dev/null; ls; popd > /dev/null; ls | head -n 1",
    "text=hello; echo ${text^^} ${text:1:3} ${#text}",
    'while IFS=, read -r name age; do echo "$name is $age"; done < table.csv',
    "echo $((2 ** 10)) $((7 % 3))",
    'printf "%05.1f\\n" 3.14159',
    "f() { local n=$1; ((n < 2)) && echo 1 || echo $((n * $(f $((n - 1))))); }; f 5",
    "case table.csv in *.csv) echo table ;; *) echo other ;; esac",
    "trap 'echo bye' EXIT; echo hi",
    "mapfile -t lines < poem.txt; echo ${#lines[@]}",
    "cat <<< 'here string'",
    "cat <<'END'\n$HOME stays\nEND",
    "name=world; cat <<END\nhello $name\nEND",
    "cat > script.sh <<'END'\n#!/bin/bash\necho $# $1\nEND\nchmod +x script.sh; ./script.sh a b",
    "echo to-stderr >&2; echo to-stdout",
    "exit 0; echo not",
    "type -t cd; type -t ls",
    "seq 5 | tee numbers.txt | paste -sd+ | bc 2>/dev/null || echo 15",
    "time true 2> /dev/null; echo timed",
    # Python and other programs
    "python3 scripts/sum.py < numbers.txt",
    "python3 -c 'import json; print(json.dumps({\"a\": 1}))' > out.json; cat out.json",
    "python3 - <<'END'\nprint(open('poem.txt').readline(), end='')\nEND",
    "tar czf data.tgz data && tar tzf data.tgz | sort | head -n 3",
    "gzip -k poem.txt && zcat poem.txt.gz | head -n 1; rm poem.txt.gz",
    "xargs -n 1 echo line < numbers.txt | tail -n 1",
    "md5sum poem.txt | cut -c 1-8",
    "PYTHONPATH=package python3 -c 'import tiny; print(tiny.ANSWER)'",
    # git
    "(git init -q -b main repo && cd repo && git status --short --branch)",
    "(cd repo && echo one > a.txt && git add a.txt && git status --short)",
    "(cd repo && git commit -qm 'Add a' && git log --format='%s by %an <%ae>')",
    "(cd repo && echo two >> a.txt && git diff --stat && git diff | tail -n 1)",
    "(cd repo && git commit -qam 'Change a' && git log --oneline | wc -l)",
    "(cd repo && git switch -qc topic && echo b > b.txt && git add . && git commit -qm 'Add b' && git branch)",
    "(cd repo && git switch -q main && ls && git merge -q topic && ls)",
    "(cd repo && git show --stat --format=%s HEAD | head -n 3)",
    "(git clone -q repo copy && cd copy && git log --format=%s)",
    "(cd copy && echo three >> a.txt && git stash -q && git status --short; git stash pop -q && git status --short)",
    "(cd repo && git tag v1 && git describe --tags && git rm -q b.txt && git status --short)",
    "(cd repo && git config user.name && git config --get remote.origin.url || echo no remote)",
)
"""The cells, each as it stands below its magic."""
