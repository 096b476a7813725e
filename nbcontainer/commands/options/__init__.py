"""The options of a run: from the words to checked values."""
