"""The steps of a plan, grouped by topic. Each class holds its texts and its system calls."""
