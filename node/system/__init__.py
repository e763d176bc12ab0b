"""How busy machines are: this one, and the others as they announce it."""
