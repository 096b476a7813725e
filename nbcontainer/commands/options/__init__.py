"""The options of a run: from arguments to checked values."""
