"""`doctor`: what this machine supports, and how to fix what it does not support."""
