"""Faults by the thousand: `python -m tests.faults --help`. The tests of `tests/linux` do some rounds of the same."""
