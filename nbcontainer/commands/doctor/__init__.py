"""`doctor`: what the host supports, and how to fix what it does not support."""
