"""The rule that trusts everybody: the weighted mean."""

from collections.abc import Sequence

from aggregation.rules.gram import Gram
from aggregation.rules.rule import Candidate
from aggregation.rules.sums import Shares, WeighingRule


class Mean(WeighingRule):
    """The weighted mean of FedAvg (arXiv:1602.05629): weights are samples, capped at `weight_max`, or all equal."""

    name = "mean"

    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        return Shares(tuple(self.claimed_weights(candidates)))
