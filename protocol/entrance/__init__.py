"""How somebody comes in: invitations, joining, introductions, and the member's own further nodes."""
