"""Changes to directories of the host: reading them from layers, and writing them to the host, inside a sandbox."""
