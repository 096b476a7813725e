"""Whether what the store has of containers is whole."""
