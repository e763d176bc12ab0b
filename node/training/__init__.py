"""Tasks and the worker processes in which they train. Nothing here knows of peers."""
