"""What is to be simulated: the scenario, and the faults that it comes to."""
