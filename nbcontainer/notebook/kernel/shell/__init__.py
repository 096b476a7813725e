"""The shell that runs a kernel's cells."""
