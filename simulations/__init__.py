"""Many nodes of the same code on a simulated network, disk and clock."""
