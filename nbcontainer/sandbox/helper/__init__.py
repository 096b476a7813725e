"""The compiled helper (`helper.c`): a server that clones inits, and the init of a container."""
