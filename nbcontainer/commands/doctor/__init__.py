"""`doctor`: what the host supports, and how to fix the rest."""
