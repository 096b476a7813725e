"""Copy-on-write volumes: their layers in cells, and how their changes are listed, applied and discarded."""
