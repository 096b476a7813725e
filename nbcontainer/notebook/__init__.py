"""IPython and Jupyter: the magics, their options and what a cell shows."""
