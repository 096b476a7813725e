"""The parts of the supervision of a container: its keyboard, and its outputs, which it lends."""
