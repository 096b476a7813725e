"""Shells and interpreters that stay in a running container, one cell after another."""
