"""One cell: its request, its streams, and its run from there to the outcome."""
