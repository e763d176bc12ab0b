"""A run: elections, rounds, commits, audits; what nodes sign and say in it, and the machine of it all."""
