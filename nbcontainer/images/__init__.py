"""Images: finding, pulling, pushing, loading, saving, and their layers."""
