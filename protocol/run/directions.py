"""What the group's log asks of a run after its start: to stop, to go on from where it was stopped, to last longer.

The log asks; the chain of checkpoints answers, so that all nodes stop and go on at the same checkpoint.
docs/protocol.md §8.9, §8.14 and §8.15.
"""

from dataclasses import dataclass

from protocol.keys import Hash
from protocol.run.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Directions:
    """`stop`: the reason of a stop that stands. `was_stopped`: whether one was ever asked for. `resumed`: checkpoints
    that stopped the run, and from which it is to go on. `rounds`: the number of the last round after the furthest
    extension; 0 without any."""

    stop: str | None = None
    was_stopped: bool = False
    resumed: frozenset[str] = frozenset()
    rounds: int = 0

    def end_at(self, name: Hash, checkpoint: Checkpoint) -> bool:
        """Whether the run is over with this checkpoint: it says so, and the group has not asked for more (§8.14).

        A stop may be lifted while its checkpoint is on its way: then that ends nothing."""
        if checkpoint.outcome == "stopped":
            was_lifted = self.was_stopped and self.stop is None
            return name not in self.resumed and not was_lifted
        if checkpoint.outcome == "finished":
            return self.rounds <= checkpoint.rounds
        return checkpoint.outcome != ""

    def allow(self, checkpoint: Checkpoint, base: Checkpoint) -> bool:
        """Whether the group has asked for what `checkpoint` makes of the run's length, where `base` is the one before
        it (§8.15). What is not asked for here may yet be: the log reaches nodes one after another."""
        furthest = max(base.rounds, self.rounds)
        if checkpoint.outcome == "stopped":
            asked_for = self.was_stopped or self.stop is not None or bool(self.resumed)
            return asked_for and checkpoint.rounds <= furthest + 1
        return base.rounds <= checkpoint.rounds <= furthest
