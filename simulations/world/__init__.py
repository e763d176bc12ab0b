"""The network, the disk, the record and the clock of a simulation, and what is seen of them from outside."""
