"""The rules that look at distances between whole updates: Krum, multi-Krum, geometric median, centred clipping.

Decides that none of them reads an update before it is summed: all they ask is in the Gram matrix (aggregation.gram). A
point z = Σ aᵢ·xᵢ has the squared distance Gⱼⱼ − 2(Ga)ⱼ + aᵀGa from xⱼ, so a median's iterations cost N² each. Krum
compares integers. The solvers count in Python's floats, with sums that are rounded once (`fsum`): no reduction of
numpy's, no BLAS and no `sum`, whose last bits differ between machines or versions.

Krum and multi-Krum give every candidate one voice. The other two may weigh by samples, under a cap: an update is
counted as that many updates that lie at one place.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import fsum, isfinite, sqrt
from operator import mul

from aggregation.measuring import VALUE_END
from aggregation.rules.gram import Gram
from aggregation.rules.rule import Candidate, checked_share
from aggregation.rules.sums import Shares, SumRule, WeighingRule
from protocol.errors import FednodeError
from protocol.manifest.defences import byzantine_count

WEISZFELD_STEPS = 32  # each costs N² of Python's operations, next to nothing beside one pass over the updates
CLIPPING_STEPS = 10
_NEAR = 1e-6  # of the distances' median: what is nearer to the geometric median counts as being so far from it


class MultiKrum(SumRule):
    """The mean of those that lie nearest to their neighbours, all but the assumed liars (arXiv:1703.02757).

    An update's score is the sum of its squared distances to its n − f − 2 nearest; the n − f of the least scores are
    averaged. It takes n ≥ 2f + 3; a smaller round assumes as many liars as it can bear, and says so. One or two updates
    are averaged, as there is nobody to tell them apart by."""

    name = "multi_krum"
    parameter_names = ("byzantine_share",)
    needs_gram = True

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        super().__init__(weighting, parameters)
        self._share = checked_share(parameters)

    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        assert gram is not None
        count = len(candidates)
        assumed = byzantine_count(self._share, count)
        borne = min(assumed, max(0, (count - 3) // 2))
        stats = {"liars_assumed": borne, "liars_not_borne": assumed - borne}
        if count < 3:
            return Shares((1,) * count, stats=stats)
        scores = krum_scores(gram, count - borne - 2)
        taken = self.taken(count - borne)
        order = sorted(range(count), key=lambda index: (scores[index], index))
        places = [order.index(index) for index in range(count)]
        aside = tuple(
            f"{self.name} took those that lie nearest to their neighbours, {taken} of {count}; it is number {place + 1}"
            for place in places
        )
        return Shares(tuple(int(place < taken) for place in places), aside=aside, stats=stats)

    def taken(self, honest: int) -> int:
        """How many are averaged."""
        return honest


class Krum(MultiKrum):
    """The one update that lies nearest to its neighbours (arXiv:1703.02757)."""

    name = "krum"

    def taken(self, honest: int) -> int:
        return 1


class GeometricMedian(WeighingRule):
    """The point of the least sum of distances to all updates: RFA (arXiv:1912.13445), by Weiszfeld's iteration.

    It starts near the update from which the others are least far, so that no distance that a liar can go delays it,
    and makes WEISZFELD_STEPS steps a ← w ÷ distance, each normalised to 1; distances count as at least a millionth of
    the median of those at the start."""

    name = "geometric_median"
    needs_gram = True

    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        assert gram is not None
        weights = self.claimed_weights(candidates)
        products = [[float(product) for product in row] for row in gram.products]
        start = _central(gram, weights)
        median = _median(start, weights)
        if median == 0:  # more than half lie at one place, and that is the median
            return Shares(tuple(0 if distance else weight for distance, weight in zip(start, weights, strict=True)))
        portions = _portions(weights, start, median)
        for _ in range(WEISZFELD_STEPS):
            portions = _portions(weights, _distances(products, portions), _NEAR * median)
        return Shares(tuple(map(Fraction, portions)))


class CentredClipping(WeighingRule):
    """The mean of what is left of the updates when they are clipped around a centre (arXiv:2012.10333).

    The centre starts at the base checkpoint, and CLIPPING_STEPS times it moves by the weighted mean of xᵢ − centre,
    each at most as long as the radius: the parameter `radius`, or the median of the distances at that step."""

    name = "centred_clipping"
    parameter_names = ("weight_max", "radius")
    needs_gram = True

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        super().__init__(weighting, parameters)
        self._radius = parameters.get("radius")
        if self._radius is not None and not (isfinite(self._radius) and 0 < self._radius < VALUE_END):
            raise FednodeError(f"A radius of {self._radius} is impossible", remedy="give one above 0, or none")

    def shares(self, candidates: Sequence[Candidate], gram: Gram | None) -> Shares:
        assert gram is not None
        weights = self.claimed_weights(candidates)
        products = [[float(product) for product in row] for row in gram.products]
        given = self._radius / sqrt(gram.unit) if self._radius is not None else None
        whole, count = sum(weights), len(weights)
        portions = [0.0] * count
        for _ in range(CLIPPING_STEPS):
            distances = _distances(products, portions)
            radius = _median(distances, weights) if given is None else given
            moved = [
                weight / whole * (1.0 if distance <= radius else radius / distance)
                for weight, distance in zip(weights, distances, strict=True)
            ]
            rest = max(0.0, 1.0 - fsum(moved))
            portions = [portion * rest + move for portion, move in zip(portions, moved, strict=True)]
        return Shares(tuple(map(Fraction, portions)), 1)


def krum_scores(gram: Gram, neighbours: int) -> list[int]:
    """For each update the sum of its squared distances to its `neighbours` nearest others, in the unit of `gram`."""
    scores = []
    for index, row in enumerate(gram.squared_distances()):
        scores.append(sum(sorted(row[:index] + row[index + 1 :])[:neighbours]))
    return scores


def _central(gram: Gram, weights: Sequence[int]) -> list[float]:
    """The distances from that update whose distances to all, by weight, add up to the least."""
    rows = [[sqrt(square) for square in row] for row in gram.squared_distances()]
    return min(rows, key=lambda row: fsum(map(mul, row, weights)))  # the first of several


def _median(distances: Sequence[float], weights: Sequence[int]) -> float:
    """The least that more than half of the weight is within."""
    within, whole = 0, sum(weights)
    for distance, weight in sorted(zip(distances, weights, strict=True)):
        within += weight
        if 2 * within > whole:
            return distance
    raise AssertionError("all of the weight is more than half of it")


def _portions(weights: Sequence[int], distances: Sequence[float], least: float) -> list[float]:
    """Weight ÷ distance, normalised to a sum of 1."""
    raw = [weight / max(distance, least) for weight, distance in zip(weights, distances, strict=True)]
    whole = fsum(raw)
    return [portion / whole for portion in raw]


def _distances(products: Sequence[Sequence[float]], portions: Sequence[float]) -> list[float]:
    """Of every update from the point Σ portion · update."""
    towards = [fsum(map(mul, row, portions)) for row in products]
    square = fsum(map(mul, towards, portions))
    return [
        sqrt(max(0.0, row[index] - 2.0 * toward + square))
        for index, (row, toward) in enumerate(zip(products, towards, strict=True))
    ]
