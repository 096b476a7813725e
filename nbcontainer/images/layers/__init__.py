"""From layer tars to directories and back."""
