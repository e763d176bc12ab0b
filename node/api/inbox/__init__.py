"""What waits for the node's owner: gathered from the node's state and its record."""
