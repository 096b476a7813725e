"""Kills in every verb, one after the other, and a summary: `python -m tests.faults.verbs --help`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.verbs.kills import VerbKills, VerbRound


def main() -> int:
    """Play rounds and print what came of them; 1 if there was damage."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.verbs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="how many, of all verbs together (1000)")
    parser.add_argument("--seed", type=int, default=1, help="which victims and times (1)")
    parser.add_argument("--verb", action="append", default=[], help="these verbs only")
    parser.add_argument("--only", metavar="ROUND", help="this one, as a failure names it: 'load/init/0.5'")
    parser.add_argument("--directory", help="where to work (default: the temporary directory)")
    words = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nbc-kills-", dir=words.directory))
    folder.chmod(0o755)
    only = words.verb or ([VerbRound.read(words.only).act] if words.only else [])
    began = time.monotonic()
    try:
        with VerbKills(folder / "bench", only).opened() as kills:
            chance = random.Random(words.seed)
            chosen = [VerbRound.read(words.only)] * words.rounds if words.only else kills.rounds(chance, words.rounds)
            for one in chosen:
                kills.play(one)
            print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in kills.times.items()))
            print(f"{kills.summary()}; seed {words.seed}, {time.monotonic() - began:.0f} s")
            return 1 if kills.failures else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
