"""Containers as notebook cells, with no daemon."""

from nbcontainer._version import __version__

__all__ = ["__version__"]
