"""What a run would do, and what it would see, without running its program."""
