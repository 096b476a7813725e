"""The parts of the supervision of a container: what is reported of it, its keyboard, and its lent outputs."""
