"""The `nbcontainer` kernel: a notebook whose cells all run in one container, by one shell."""
