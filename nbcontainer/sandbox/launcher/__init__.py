"""The launcher: the fork server that makes containers, init, and the notebook's side of both."""
