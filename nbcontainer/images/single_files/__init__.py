"""Single files of a container's tree: read and written inside a sandbox that has the tree as its root."""
