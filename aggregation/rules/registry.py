"""The rules by their names."""

from collections.abc import Mapping

from aggregation.rules.coordinates import CoordinateMedian, TrimmedMean
from aggregation.rules.gram_rules import CentredClipping, GeometricMedian, Krum, MultiKrum
from aggregation.rules.mean import Mean
from aggregation.rules.rule import WEIGHTINGS, Rule
from protocol.errors import FednodeError

RULES: dict[str, type[Rule]] = {
    rule.name: rule for rule in (Mean, CoordinateMedian, TrimmedMean, Krum, MultiKrum, GeometricMedian, CentredClipping)
}


def make_rule(name: str, weighting: str, parameters: Mapping[str, float]) -> Rule:
    """The rule of a run's settings. Raises FednodeError that names what is unknown and what is known."""
    if weighting not in WEIGHTINGS:
        raise FednodeError(f"There is no weighting {weighting!r}", remedy=f"choose one of {', '.join(WEIGHTINGS)}")
    if name not in RULES:
        raise FednodeError(f"There is no rule {name!r}", remedy=f"choose one of {', '.join(RULES)}")
    return RULES[name](weighting, parameters)
