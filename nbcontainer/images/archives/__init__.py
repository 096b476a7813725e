"""Images in files: archives and layout directories."""
