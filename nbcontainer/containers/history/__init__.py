"""The history of containers: states, the names that lead to them, and what can be done with them."""
