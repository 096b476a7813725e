"""Thin wrappers of the kernel's interface, named as in the man pages. They raise `OSError`."""
