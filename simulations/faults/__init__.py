"""What goes wrong: faults that come and go, nodes that lie, members that break the rules, strangers."""
