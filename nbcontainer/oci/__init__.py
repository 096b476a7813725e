"""The documents of the OCI image specification, and image names. Nothing here opens a file."""
