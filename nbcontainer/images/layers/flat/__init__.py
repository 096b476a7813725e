"""Flattening: one directory that has the effect of many layers, made of hard links."""
