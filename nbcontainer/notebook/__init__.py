"""IPython and Jupyter: `%load_ext nbcontainer`."""
