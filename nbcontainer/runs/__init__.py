"""Runs from Python: one call with its result, a run that an event loop awaits, a stream of output, a container."""
