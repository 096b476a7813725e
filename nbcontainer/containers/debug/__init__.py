"""Looking into containers after a cell has failed."""
