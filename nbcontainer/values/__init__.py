"""Values between the notebook and a cell: codecs, `/in` and `/out`."""
