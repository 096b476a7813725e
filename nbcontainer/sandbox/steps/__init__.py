"""The steps of a plan, grouped by topic. Each class holds its words and its system calls."""
