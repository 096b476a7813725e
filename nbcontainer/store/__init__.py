"""The store: an OCI image layout with extracted layers and containers beside the blobs."""
