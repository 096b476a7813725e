"""SIGKILL at any time in every verb, and two processes with random verbs: `python -m tests.faults.verbs --help`."""
