"""Prompts of cells: the frontend that is asked, and what it answers."""
