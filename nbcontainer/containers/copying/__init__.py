"""Copying files and directories between the host and a container, running or not, and from an earlier state of it."""
