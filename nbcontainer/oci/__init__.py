"""The documents of the OCI image specification, and the names of images. No file is opened here."""
