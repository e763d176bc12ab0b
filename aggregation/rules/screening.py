"""What is done about updates that are far longer than the others, before a rule sees them: screening and clipping.

Decides both by squared norms in whole numbers (aggregation.norms), so nodes cannot differ over them. The measure of a
round is the lower median of its norms: a minority, however long or short its updates, moves it no further than to
another honest norm.

A clipped update is multiplied by a factor of 24 bits, rounded down, so that it is no longer than it may be.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor, isqrt, ldexp

import numpy as np

from aggregation.rules.rule import Candidate, Rows
from aggregation.tensors.exact_sum import ZERO_EXPONENT, exponent_of
from aggregation.tensors.flat import F32
from aggregation.tensors.norms import NORM_UNIT_BITS
from aggregation.updates import Checked, Refusal, check_norm_bound
from protocol.errors import FednodeError
from protocol.run.checkpoint import NORM_OUTLIER

MEDIAN = "median"  # clip to the round's
FACTOR_END = 1e9

_FACTOR_BITS = 24  # what a float32 holds


def outliers(candidates: Sequence[Candidate], factor: float | None) -> dict[int, Refusal]:
    """Who is longer than `factor` times the round's lower median, by index; nobody where it is None. Never all."""
    if factor is None:
        return {}
    median = _median_squared(candidates)
    bound = Fraction(repr(factor)) ** 2 * median
    return {
        index: Refusal(
            each.name,
            NORM_OUTLIER,
            f"its norm {each.checked.norm:.6g} is over {factor:g} times the round's median of {_norm(median):.6g}",
        )
        for index, each in enumerate(candidates)
        if norm_squared(each) > bound
    }


def clip_factors(candidates: Sequence[Candidate], clip: "float | str | None") -> list[Fraction]:
    """What to multiply each difference by, at most 1, so that its norm is at most `clip`, a number or MEDIAN."""
    if clip is None:
        return [Fraction(1)] * len(candidates)
    if isinstance(clip, str):
        limit = Fraction(_median_squared(candidates))
    else:
        limit = (Fraction(clip) * 2**NORM_UNIT_BITS) ** 2
    return [_factor(limit, norm_squared(each)) for each in candidates]


def check_screening(factor: float | None, clip: "float | str | None") -> None:
    """Raises FednodeError for what no round could be screened or clipped by."""
    if factor is not None and not 1 <= factor < FACTOR_END:
        raise FednodeError(f"A screen factor of {factor} is impossible", remedy=f"choose 1 to {FACTOR_END:g}, or none")
    if isinstance(clip, str) and clip != MEDIAN:
        raise FednodeError(f"Nothing can be clipped to {clip!r}", remedy=f"choose a norm, {MEDIAN!r} or none")
    if clip is not None and not isinstance(clip, str):
        check_norm_bound(clip)


def clipped_away(candidate: Candidate) -> Refusal:
    """Of an update of which clipping leaves nothing: most others are all zeros."""
    return Refusal(candidate.name, NORM_OUTLIER, f"its norm is {candidate.checked.norm:.6g}, the round's median 0")


def clipped(candidate: Candidate, factor: Fraction) -> Candidate:
    """The candidate whose difference is multiplied by `factor`, above 0 and at most 1."""
    if factor == 1:
        return candidate
    bits = exponent_of(float(factor))
    exponents = tuple(
        exponent if exponent == ZERO_EXPONENT else max(exponent + bits, ZERO_EXPONENT + 1)
        for exponent in candidate.checked.value_exponents
    )
    return replace(candidate, checked=Checked(exponents, None))


class ClippedRows:
    """Rows, each times its factor, rounded to float32."""

    def __init__(self, rows: Rows, factors: Sequence[Fraction]) -> None:
        self._rows = rows
        self._factors = [np.float32(factor) for factor in factors]

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int, out: F32) -> F32:
        values, factor = self._rows.read(index, out), self._factors[index]
        return values if factor == 1 else np.multiply(values, factor, out=out)


def norm_squared(candidate: Candidate) -> int:
    """In units of 4^-NORM_UNIT_BITS. The checks have measured it."""
    found = candidate.checked.norm_squared
    assert found is not None
    return found


def _median_squared(candidates: Sequence[Candidate]) -> int:
    return sorted(map(norm_squared, candidates))[(len(candidates) - 1) // 2]


def _factor(limit: Fraction, square: int) -> Fraction:
    """The greatest number of 24 bits whose square times `square` is no more than `limit`; 1 where that is less."""
    if square <= limit:
        return Fraction(1)
    ratio = limit / square
    # Shifted until its square root has at least 24 bits, of which the rest are cut off.
    shift = _FACTOR_BITS + max(0, (ratio.denominator.bit_length() - ratio.numerator.bit_length() + 3) // 2)
    root = isqrt(floor(ratio * 4**shift))
    spare = max(0, root.bit_length() - _FACTOR_BITS)
    return Fraction(root >> spare << spare, 2**shift)


def _norm(square: int) -> float:
    return ldexp(isqrt(square), -NORM_UNIT_BITS)
