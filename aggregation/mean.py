"""The rule that trusts everybody: the weighted mean."""

from collections.abc import Mapping, Sequence

from aggregation.gram import Gram
from aggregation.rule import Candidate, check_parameters, checked_weight_max, claimed_weight
from aggregation.sums import Shares, SumRule


class Mean(SumRule):
    """The weighted mean of FedAvg (arXiv:1602.05629): weights are samples, capped at `weight_max`, or all equal."""

    name = "mean"

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        check_parameters(("weight_max",), self.name, parameters)
        self._weighting = weighting
        self._weight_max = checked_weight_max(parameters)

    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        return Shares(tuple(claimed_weight(self._weighting, each.samples, self._weight_max) for each in candidates))
