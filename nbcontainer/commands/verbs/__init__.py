"""Verbs by their topic, and what their operands name."""
