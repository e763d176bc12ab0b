"""Drawings and tables as values, with no terminal in sight. Pure."""
