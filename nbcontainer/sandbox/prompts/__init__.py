"""Which programs of a container wait for input from a terminal, as the notebook sees it."""
