"""One run's metrics as curves: which there are to choose from, and each node's points by round.

A metric can come twice (from the record when the run is first looked at, and live), in any order, and several times a
round while a node trains; the newest (epoch, step) of a round stands until the figure of the round as a whole comes, so
adding is idempotent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tui.facts.fields import Json, measure, number, text

MEAN = ""  # the node id under which the mean over all nodes comes
VALUE_MAX = 1e100  # beyond what 32-bit training can give; keeps the drawing's arithmetic finite
WHOLE = (1 << 62, 0)  # the order of a figure of a round as a whole: after all of its steps
POINTS_MAX = 400_000  # of one run; at 50 nodes and 8 kinds of curve, 1,000 rounds: some 60 MB

Points = list[tuple[int, float]]


class Kind(NamedTuple):
    """What a curve shows. Sorted by `kinds` so that the accuracy of the whole comes first."""

    scope: str
    split: str
    key: str
    label: str = ""  # the class, for metrics by class

    @property
    def title(self) -> str:
        whose = {"global": "shared model", "local": "own models"}.get(self.scope, self.scope)
        on = {"eval": "held-out data", "train": "training data"}.get(self.split, self.split)
        return f"{self.key}{f' of class {self.label}' if self.label else ''}, {whose}, {on}"


class _Point(NamedTuple):
    order: tuple[int, int]  # (epoch, step)
    value: float
    samples: int


@dataclass(frozen=True, slots=True)
class CurveSet:
    """The curves of one kind: each node's points in the order of rounds, and their mean."""

    kind: Kind
    nodes: Mapping[str, Points]
    mean: Points

    @property
    def empty(self) -> bool:
        return not self.mean


def _prominence(kind: Kind) -> tuple[object, ...]:
    keys = {"accuracy": 0, "loss": 1}
    return (kind.label != "", kind.scope != "global", keys.get(kind.key, 2), kind.split != "eval", kind)


class Curves:
    """All the curves of one run."""

    def __init__(self) -> None:
        self._points: dict[Kind, dict[str, dict[int, _Point]]] = {}
        self._count = 0
        self.revision = 0

    def add(self, metrics: Iterable[Json]) -> bool:
        """Take metrics in; true when a curve changed."""
        changed = [self._add_one(metric) for metric in metrics]
        self.revision += any(changed)
        return any(changed)

    def _add_one(self, metric: Json) -> bool:
        value = measure(metric, "value")
        if value is None or abs(value) > VALUE_MAX or self._count >= POINTS_MAX:
            return False
        kind = Kind(text(metric, "scope"), text(metric, "split"), text(metric, "key"), text(metric, "class"))
        rounds = self._points.setdefault(kind, {}).setdefault(text(metric, "node_id"), {})
        at = number(metric, "round")
        order = (number(metric, "epoch"), number(metric, "step"))
        point = _Point(order if any(order) else WHOLE, value, number(metric, "samples"))
        old = rounds.get(at)
        if old is not None and (old == point or old.order > point.order):
            return False
        self._count += old is None
        rounds[at] = point
        return True

    def kinds(self) -> list[Kind]:
        """The kinds of curve there are, the most telling first."""
        return sorted(self._points, key=_prominence)

    def of(self, kind: Kind) -> CurveSet:
        """The curves of one kind. Where no mean came, it is that of the nodes, weighted by samples."""
        by_node = self._points.get(kind, {})
        nodes = {node: _line(rounds) for node, rounds in sorted(by_node.items()) if node != MEAN}
        given = by_node.get(MEAN)
        return CurveSet(kind, nodes, _line(given) if given else _mean([by_node[node] for node in nodes]))

    def latest(self, kind: Kind, node: str) -> float | None:
        """The newest value of one node's curve, or None."""
        rounds = self._points.get(kind, {}).get(node)
        return rounds[max(rounds)].value if rounds else None


def _line(rounds: Mapping[int, _Point]) -> Points:
    return [(at, rounds[at].value) for at in sorted(rounds)]


def _mean(nodes: list[dict[int, _Point]]) -> Points:
    """Of rounds as a whole, as soon as there is one: of the steps in between each node knows its own alone."""
    points = [(at, point) for rounds in nodes for at, point in rounds.items()]
    whole = [(at, point) for at, point in points if point.order == WHOLE]
    totals: dict[int, tuple[float, int]] = {}
    for at, point in whole or points:
        weight = max(point.samples, 1)
        total, weights = totals.get(at, (0.0, 0))
        totals[at] = (total + point.value * weight, weights + weight)
    return [(at, total / weights) for at, (total, weights) in sorted(totals.items())]
