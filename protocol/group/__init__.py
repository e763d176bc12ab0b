"""A group: the log of signed operations, the state that follows from it, its key, and the rules of who is in."""
