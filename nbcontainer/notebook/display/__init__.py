"""What is shown beside the output of cells: hints, footers and progress."""
