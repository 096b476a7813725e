"""Comparing any two states of containers, or images: which paths differ, and the texts of small files."""
