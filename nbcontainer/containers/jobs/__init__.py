"""Jobs: runs that continue while the notebook runs other cells, with their output in the store."""
