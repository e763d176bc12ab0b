"""Log lines: how they look, where they are kept, and what of them others may read."""
