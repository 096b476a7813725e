"""Images from and to registries, by the OCI distribution specification, 1.1. Imported when one is talked to."""
