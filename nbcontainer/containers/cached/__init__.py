"""Cached cells (`--cache`): keys, and results that are replayed instead of running a cell."""
