"""The rule that trusts everybody: the weighted mean."""

from collections.abc import Mapping, Sequence

from aggregation.flat import FlatLayout
from aggregation.rule import Candidate, Plan, Rule, Spool, WeightedSum, check_parameters, claimed_weight


class Mean(Rule):
    """The weighted mean of FedAvg (arXiv:1602.05629): weights are samples, capped at WEIGHT_MAX, or all equal."""

    name = "mean"

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        check_parameters((), self.name, parameters)
        self._weighting = weighting

    def plan(self, layout: FlatLayout, candidates: Sequence[Candidate], spool: Spool) -> Plan:
        weights = [claimed_weight(self._weighting, candidate.samples) for candidate in candidates]
        return WeightedSum(layout, candidates, weights, sum(weights))
