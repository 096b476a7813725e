"""The commands of notebook and terminal: their grammar, what they do, and the values they return."""
