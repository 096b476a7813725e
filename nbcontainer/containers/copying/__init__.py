"""Copying single files between the host and a container that does not run."""
