"""Reading tar archives that are not trusted: their bytes, and what programs read in two ways."""
