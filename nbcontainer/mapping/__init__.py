"""`map`: one command or function in containers over many inputs, on threads, processes or a cluster."""
