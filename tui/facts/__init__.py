"""What the dashboard knows: events folded into facts, and what the person at it has chosen. Pure."""
