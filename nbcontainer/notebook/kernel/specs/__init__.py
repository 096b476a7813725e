"""Kernelspecs, and the commands that install and freeze them."""
