"""FedNova: the mean that does not favour who makes many steps (Wang et al., 2020, arXiv:2007.07481).

A node with much data makes more steps in a round than one with little, and its difference is as much longer; the plain
mean then moves towards a model that is best for nobody. FedNova divides each difference Δᵢ by its steps τᵢ, averages
these by samples, and moves by as many steps as the nodes made on average:

    Σ pᵢ τᵢ · Σ pᵢ Δᵢ / τᵢ      with pᵢ = the node's share of the weights

For plain SGD, whose steps all count alike. Steps are a node's own claim. They are taken as at most STEPS_FACTOR_MAX
times the round's lower median, and as no less than its STEPS_FACTOR_MAX-th part, so that a minority that lies moves the
others no further than that.
"""

from collections.abc import Sequence
from fractions import Fraction

from aggregation.rules.gram import Gram
from aggregation.rules.rule import Candidate
from aggregation.rules.sums import Shares, WeighingRule

STEPS_FACTOR_MAX = 16  # a node with sixteen times the usual data; it also keeps the result below 65 differences


class FedNova(WeighingRule):
    """Σ pᵢ τᵢ · Σ pᵢ Δᵢ / τᵢ; pᵢ as of the rule mean."""

    name = "fednova"

    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        claims = self.claimed_weights(candidates)
        steps = believed_steps([each.steps for each in candidates])
        shares = tuple(Fraction(claim, step) for claim, step in zip(claims, steps, strict=True))
        made = sum(claim * step for claim, step in zip(claims, steps, strict=True))
        return Shares(shares, Fraction(sum(claims) ** 2, made))


def believed_steps(claimed: Sequence[int]) -> list[int]:
    """What is taken for the nodes' steps, given what they claim; 0 counts as 1."""
    median = max(1, sorted(claimed)[(len(claimed) - 1) // 2])
    least, most = -(-median // STEPS_FACTOR_MAX), median * STEPS_FACTOR_MAX
    return [min(max(steps, least), most) for steps in claimed]
