"""From bytes to layers and back: references, the store, packing and unpacking, recipes."""
