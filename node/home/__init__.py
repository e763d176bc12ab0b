"""A node's folder: its lock, its settings, its keys and their backups; and what a doctor sees of it."""
