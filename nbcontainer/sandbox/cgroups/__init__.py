"""Control groups: what this machine has, and one group for each cell with limits."""
