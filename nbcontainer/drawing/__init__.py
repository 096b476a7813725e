"""Drawings of how a container is made: values with a text, a page with an SVG drawing, and JSON values."""
