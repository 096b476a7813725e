"""The kernel's interface and nothing else: thin wrappers named as in the man pages. They raise `OSError`."""
