"""Thousands of faults, one after the other, and a summary: `python -m tests.faults --help`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.plays import KINDS, Play, every_known_round, kind_of, round_of


def main() -> int:
    """Plays rounds and prints what came of them; 1 where there was damage."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="how many, of all kinds together (1000)")
    parser.add_argument("--seed", type=int, default=1, help="which of all that there are, and in which order (1)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="of these kinds only")
    parser.add_argument("--minutes", type=float, default=1e9, help="no more of them than in this time")
    parser.add_argument("--only", metavar="ROUND", help="this one, as a failure names it: 'full init 37 ENOSPC'")
    words = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nbcontainer-faults-"))
    folder.chmod(0o755)
    began = time.monotonic()
    failed = played = 0
    try:
        known = [] if words.only else every_known_round(folder / "known")
        for kind in words.kind or ([kind_of(round_of(words.only))] if words.only else KINDS):
            share = 1 / len(words.kind) if words.kind else KINDS[kind].share
            limit = words.minutes * 60 * share
            play = Play(kind, folder / kind, known, random.Random(f"{words.seed} {kind}"), limit)
            play.rounds(max(1, round(words.rounds * share)), words.only or "")
            print(play.summary(), flush=True)
            failed += len(play.failures)
            played += play.played
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took = time.monotonic() - began
    print(f"{played} rounds with seed {words.seed} in {took:.0f} s, {failed} with damage")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
