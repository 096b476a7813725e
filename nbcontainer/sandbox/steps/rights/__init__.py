"""Steps that take rights away: users, capabilities, limits, and the filter of system calls."""
