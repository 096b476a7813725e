"""The parts of `%%container`: its grammar, and where the output of its cells goes."""
