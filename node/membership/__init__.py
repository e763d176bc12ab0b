"""The groups that this node is in, its member's other nodes, and how all of them are found."""
