"""One run's metrics as curves: which there are to choose from, and each node's points by round, by step and by time.

A metric can come twice (from the record when the run is first looked at, and live), in any order, thinned out by the
node, and several times a round while a node trains. Of a round, the newest (epoch, step) stands until the figure of the
round as a whole comes; adding is idempotent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tui.facts.asks import Ask, asking
from tui.facts.fields import Json, items, measure, moment, number, text

MEAN = ""  # the node id under which the mean over all nodes comes
VALUE_MAX = 1e100  # beyond what 32-bit training can give; keeps the drawing's arithmetic finite
POINTS_MAX = 200_000  # of one run; some 60 MB. Beyond it every second step within rounds is let go
AXES = ("round", "step", "time")  # in the order in which one goes through them

Points = list[tuple[float, float]]
Place = tuple[int, int, int]  # round, epoch, step; a figure of the round as a whole has neither epoch nor step


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
    value: float
    samples: int
    at: float | None  # seconds since 1970


@dataclass(frozen=True, slots=True)
class CurveSet:
    """The curves of one kind: each node's points from left to right, and their mean, which may have none.

    `axis`: what the places of points count. A round's figure stands at the round, a step's between it and the one
    before; `steps` are as many as any node told of a round, 0 where none did. Times are seconds since `began`.
    """

    kind: Kind
    nodes: Mapping[str, Points]
    mean: Points
    axis: str = "round"
    steps: int = 0
    began: float = 0.0

    @property
    def empty(self) -> bool:
        return not self.mean and not any(self.nodes.values())

    def place_of(self, round_number: int, at: float | None, share: float) -> float | None:
        """Where something is that befell the run when `share` of a round was over, `at` seconds since 1970; None: not
        here."""
        if self.axis == "time":
            return None if at is None else at - self.began
        place = round_number - 1 + share
        return place * (self.steps or 1) if self.axis == "step" else place


def points_of(run_id: str, kind: Kind, points: int, **rounds: int) -> Ask:
    """The question for the figures of one kind, each curve thinned out to so many `points`. `rounds`: after_round and
    before_round, where not all of the run is wanted."""
    wanted = {"scope": kind.scope, "split": kind.split, "key": kind.key, "class": kind.label}
    return asking("runs", run_id, "metrics", points=points, **wanted, **rounds)


def _prominence(kind: Kind) -> tuple[object, ...]:
    keys = {"accuracy": 0, "loss": 1}
    return (kind.label != "", kind.scope != "global", keys.get(kind.key, 2), kind.split != "eval", kind)


class _Line:
    """One node's figures of one kind."""

    __slots__ = ("_rounds", "newest", "points")

    def __init__(self) -> None:
        self.points: dict[Place, _Point] = {}
        self.newest: Place = (-1, 0, 0)
        self._rounds: dict[int, _Point] | None = {}

    def add(self, place: Place, point: _Point) -> int | None:
        """Take one in. How many more there are now; None where that changed nothing."""
        old = self.points.get(place)
        if old == point:
            return None
        self.points[place] = point
        self._rounds = None
        if _order(place) >= _order(self.newest):
            self.newest = place
        return old is None

    def thin(self) -> int:
        """Let go of every second step within rounds; returns how many."""
        steps = sorted(place for place in self.points if place[1:] != (0, 0) and place != self.newest)
        for place in steps[::2]:
            del self.points[place]
        self._rounds = None
        return len(steps[::2])

    @property
    def rounds(self) -> dict[int, _Point]:
        """What stands for each round, in their order."""
        if self._rounds is None:
            self._rounds = {place[0]: self.points[place] for place in sorted(self.points, key=_order)}
        return self._rounds

    def by(self, axis: str, steps: int, began: float) -> Points:
        match axis:
            case "step":
                ordered = sorted(self.points, key=_order)
                placed = [(_step_of(place, steps), self.points[place].value) for place in ordered]
                return sorted(placed, key=lambda point: point[0])  # a task may count them anew in every epoch
            case "time":
                return sorted((point.at - began, point.value) for point in self.points.values() if point.at is not None)
        return [(at, point.value) for at, point in self.rounds.items()]


def _order(place: Place) -> tuple[int, bool, int, int]:
    return place[0], place[1:] == (0, 0), place[1], place[2]


def _step_of(place: Place, steps: int) -> float:
    """Steps since the run began, when every round has so many."""
    whole = place[1:] == (0, 0)
    return place[0] * max(steps, 1) if whole else (place[0] - 1) * max(steps, 1) + place[2]


class Curves:
    """All the curves of one run."""

    def __init__(self) -> None:
        self._lines: dict[Kind, dict[str, _Line]] = {}
        self._told: set[Kind] = set()  # that there are, though their figures may not be here
        self._count = 0
        self._changed: dict[Kind, int] = {}
        self._sets: dict[tuple[Kind, str], tuple[object, CurveSet]] = {}
        self.steps = 0  # the most that any node told of a round
        self.began = float("inf")  # the earliest figure's time, in seconds since 1970
        self.revision = 0

    def add(self, metrics: Iterable[Json]) -> bool:
        """Take metrics in; true when a curve changed."""
        changed = [self._add_one(metric) for metric in metrics]
        self.revision += any(changed)
        return any(changed)

    def learn_series(self, answer: Json) -> bool:
        """Take in which curves there are (/v1/runs/{run}/series); true when that is news."""
        fresh = {_kind_of(series) for series in items(answer, "series")} - self._told
        self._told |= fresh
        self.revision += bool(fresh)
        return bool(fresh)

    def _add_one(self, metric: Json) -> bool:
        value = measure(metric, "value")
        if value is None or abs(value) > VALUE_MAX or (self._count >= POINTS_MAX and not self._made_room()):
            return False
        kind = _kind_of(metric)
        when = moment(metric, "time")
        point = _Point(value, number(metric, "samples"), when.timestamp() if when else None)
        place = (number(metric, "round"), number(metric, "epoch"), number(metric, "step"))
        line = self._lines.setdefault(kind, {}).setdefault(text(metric, "node_id"), _Line())
        more = line.add(place, point)
        if more is None:
            return False
        self._count += more
        self.steps = max(self.steps, place[2])
        self.began = min(self.began, point.at if point.at is not None else self.began)
        self._changed[kind] = self._changed.get(kind, 0) + 1
        return True

    def _made_room(self) -> bool:
        self._count -= sum(line.thin() for lines in self._lines.values() for line in lines.values())
        self._sets.clear()
        return self._count < POINTS_MAX * 0.9  # else it would be thinned again at once, for nothing

    def kinds(self) -> list[Kind]:
        """The kinds of curve there are, the most telling first."""
        return sorted(self._told | self._lines.keys(), key=_prominence)

    def of(self, kind: Kind, axis: str = "round") -> CurveSet:
        """The curves of one kind over rounds, steps or time (AXES). Where no mean came, it is that of the nodes,
        weighted by samples."""
        reason = (self._changed.get(kind), {"step": self.steps, "time": self.began}.get(axis))
        known = self._sets.get((kind, axis))
        if known is None or known[0] != reason:
            known = self._sets[kind, axis] = (reason, self._made(kind, axis))
        return known[1]

    def _made(self, kind: Kind, axis: str) -> CurveSet:
        lines = self._lines.get(kind, {})
        began = self.began if self.began != float("inf") else 0.0
        nodes = {node: line.by(axis, self.steps, began) for node, line in sorted(lines.items()) if node != MEAN}
        means = _means([lines[node] for node in nodes])
        given = lines.get(MEAN)
        if given is not None:  # as far as it goes; what came live since has no mean of the node's own
            newest = given.newest[0]
            means = given.rounds | {at: point for at, point in means.items() if at > newest}
        mean = _line_of(means)
        return CurveSet(kind, nodes, mean.by(axis, self.steps, began), axis, self.steps, began)

    def latest(self, kind: Kind, node: str) -> float | None:
        """The newest value of one node's curve, or None."""
        line = self._lines.get(kind, {}).get(node)
        return line.points[line.newest].value if line else None


def _kind_of(source: Json) -> Kind:
    return Kind(text(source, "scope"), text(source, "split"), text(source, "key"), text(source, "class"))


def _line_of(rounds: Mapping[int, _Point]) -> _Line:
    line = _Line()
    for at in sorted(rounds):
        line.add((at, 0, 0), rounds[at])
    return line


def _means(lines: list[_Line]) -> dict[int, _Point]:
    """Of rounds as a whole, as soon as there is one: of the steps in between each node knows its own alone."""
    whole = [(place[0], point) for line in lines for place, point in line.points.items() if place[1:] == (0, 0)]
    totals: dict[int, _Point] = {}
    for at, point in whole or [pair for line in lines for pair in line.rounds.items()]:
        weight = max(point.samples, 1)
        total, weights, when = totals.get(at, _Point(0.0, 0, None))
        latest = max((time for time in (when, point.at) if time is not None), default=None)
        totals[at] = _Point(total + point.value * weight, weights + weight, latest)
    return {at: _Point(total / weights, weights, when) for at, (total, weights, when) in totals.items()}
