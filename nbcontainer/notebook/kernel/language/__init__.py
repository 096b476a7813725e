"""What the kernel knows about the shell's language: completion, inspection, completeness."""
