"""What must hold whatever fails: of a run, of the group, of the whole in the end."""
