"""From a plan (plain data) to a confined process and its outcome."""
