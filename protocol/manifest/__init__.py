"""A run's whole configuration: its sections and keys, what must hold of them, and their words for people."""
