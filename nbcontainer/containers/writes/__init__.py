"""What a cell writes: the overlay's upper directory, with or without a size limit, and copies of it."""
