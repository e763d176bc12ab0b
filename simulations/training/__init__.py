"""The simulated Trainer: tasks in this process, of many nodes at once where they allow it."""
