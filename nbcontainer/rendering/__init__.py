"""How values look: fields, tables and trees as plain text, as a page without scripts, and as JSON values."""
