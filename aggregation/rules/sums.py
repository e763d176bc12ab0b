"""Rules that end in a weighted sum: what share each difference has, and how shares become integer weights.

Decides that such a rule only says how much of each update it takes, as exact fractions. Clipping and mixing change the
shares, never the differences, and at the very end they are rounded, once, to the integers that the checkpoint lists: in
units that give the largest of them between 2^18 and WEIGHT_MAX, unless all are small integers already.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import ClassVar

from aggregation.rules.gram import Gram, gram_of
from aggregation.rules.rule import Candidate, Plan, Rule, Spool, WeightedSum
from aggregation.tensors.exact_sum import WEIGHT_MAX
from aggregation.tensors.flat import FlatLayout
from aggregation.updates import Refusal
from protocol.errors import FednodeError
from protocol.run.checkpoint import SET_ASIDE


@dataclass(frozen=True)
class Shares:
    """Σ shares[i] · difference i ÷ total. Shares are not negative and not all 0."""

    shares: tuple[int | Fraction, ...]
    total: int | Fraction | None = None  # positive; None: what the shares add up to
    aside: tuple[str, ...] = ()  # for each candidate what to say where its share is 0
    stats: Mapping[str, float] = field(default_factory=dict)
    rounded_down: bool = False  # as weights, so that what was clipped is not longer again


class SumRule(Rule):
    """A rule that says how much of each difference it takes. New ones need `shares` in place of `plan`."""

    needs_gram: ClassVar[bool] = False

    @abstractmethod
    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        """What of each candidate's difference enters. `gram` holds their inner products where the rule needs them."""

    def plan(self, layout: FlatLayout, candidates: Sequence[Candidate], spool: Spool) -> Plan:
        gram = gram_of(len(candidates), spool) if self.needs_gram else None
        return sum_of(layout, candidates, self.shares(candidates, gram))


class WeighingRule(SumRule):
    """A rule that weighs by samples, or all alike. What a node says of its samples is its own claim, so a cap, the
    parameter weight_max, bounds what lying can gain."""

    parameter_names: ClassVar[tuple[str, ...]] = ("weight_max",)

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        """Raises FednodeError, too, unless the cap is a whole number of 1 to WEIGHT_MAX."""
        super().__init__(weighting, parameters)
        weight_max = parameters.get("weight_max", WEIGHT_MAX)
        if not (1 <= weight_max <= WEIGHT_MAX and weight_max == int(weight_max)):
            raise FednodeError(f"A cap of {weight_max} on weights is impossible", remedy=f"give 1 to {WEIGHT_MAX}")
        self._weight_max = int(weight_max)
        self._by_samples = weighting == "samples"

    def claimed_weights(self, candidates: Sequence[Candidate]) -> list[int]:
        return [min(each.samples, self._weight_max) if self._by_samples else 1 for each in candidates]


def sum_of(layout: FlatLayout, candidates: Sequence[Candidate], wanted: Shares) -> WeightedSum:
    """The plan of what a rule wants. Whoever is left without a weight is set aside, in the rule's words."""
    weights, divisor = integer_weights(wanted)
    aside = wanted.aside or ("",) * len(candidates)
    refused = [
        Refusal(candidate.name, SET_ASIDE, sentence or "its share of the sum rounds to nothing")
        for candidate, weight, sentence in zip(candidates, weights, aside, strict=True)
        if not weight
    ]
    plan = WeightedSum(layout, candidates, weights, divisor, tuple(refused))
    plan.stats = wanted.stats
    return plan


def integer_weights(wanted: Shares) -> tuple[list[int], float]:
    """The shares as integers of at most WEIGHT_MAX, and what to divide their sum by."""
    largest, unit = max(wanted.shares), Fraction(1)
    if largest > WEIGHT_MAX or any(Fraction(share).denominator > 1 for share in wanted.shares):
        unit = _unit(largest)
    to_integer = floor if wanted.rounded_down else round
    weights = [to_integer(share * unit) for share in wanted.shares]
    return weights, float(sum(weights) if wanted.total is None else wanted.total * unit)


def _unit(largest: int | Fraction) -> Fraction:
    """The greatest power of two that keeps `largest` within WEIGHT_MAX."""
    ratio = WEIGHT_MAX / Fraction(largest)
    power = floor(ratio).bit_length() - 1 if ratio >= 1 else -(ceil(1 / ratio) - 1).bit_length()
    return Fraction(2) ** power
