"""User namespaces: which ids a container has, and mounts that show its ids."""
