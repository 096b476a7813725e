"""Commands that measure, side by side in one run. They assert nothing: `python -m tests.benchmarks.cells`."""
