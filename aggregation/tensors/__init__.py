"""Models and updates as flat numbers: what they consist of, where they lie, and how they add up exactly."""
