"""The views behind the number keys, one module each, and what their tables say."""
