"""The shell's language in the kernel: completion, inspection, completeness."""
