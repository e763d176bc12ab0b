"""This node's own data sets: what lies where, and what it is like."""
