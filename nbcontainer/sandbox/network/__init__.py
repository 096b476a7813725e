"""Private networks: a helper program carries a container's packets."""
