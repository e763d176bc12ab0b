"""Draws the nodes of our groups on a ring, who is joined to whom, and what is on its way between them.

Places depend on the names alone, so nodes stay where they are when the aggregator changes or a peer goes away.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tui.drawing.picture import Canvas, Picture
from tui.drawing.words import CROWN, shortened, state_sign
from tui.facts.nodes import Transfer

NODES_SHOWN_MAX = 96  # more signs than that run into each other on any terminal's ring
NAME_WIDTH_MAX = 16
CROWDED_FROM = 12  # with more nodes, lines are thinned out, so that the signs stay in sight
ROOMY_WIDTH = 56  # from here on a node's state stands beside its name
ARROWS = {"update": "→↘↓↙←↖↑↗", "checkpoint": "⇒⇘⇓⇙⇐⇖⇑⇗"}  # by eighths of a turn, clockwise from the right
RANK_LINK, RANK_WORK = 1, 2


@dataclass(frozen=True, slots=True)
class Place:
    """One node as the drawing shows it. `state`: its part in the chosen run, or empty."""

    node_id: str
    name: str
    ourselves: bool = False
    here: bool = True
    aggregator: bool = False
    state: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a drawing is made of, but for what moves."""

    places: tuple[Place, ...]
    run_name: str = ""

    @property
    def aggregator(self) -> str:
        return next((place.node_id for place in self.places if place.aggregator), "")


class Topology:
    """A scene drawn at one size. Make one when either changes; `picture` adds the transfers of the moment."""

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self._shown = _most_telling(scene.places)
        self._left_out = len(scene.places) - len(self._shown)
        self._still = Canvas(width, height)
        self._roomy = width >= ROOMY_WIDTH
        self._spots = self._ring(width, height)
        self._taken = set(self._spots.values())  # cells of signs and names, which nothing may cover
        self._draw_links(scene.aggregator)
        self._draw_nodes()

    def picture(self, moving: Sequence[Transfer], now: float, shown_s: float) -> Picture:
        """The drawing with each transfer's arrow as far on its way as its age, of `shown_s` seconds, says."""
        canvas = self._still.copy() if moving else self._still
        for transfer in moving:
            sender, receiver = self._spots.get(transfer.sender), self._spots.get(transfer.receiver)
            if sender and receiver and sender != receiver:
                part = 0.2 + 0.6 * min(max((now - transfer.at) / shown_s, 0.0), 1.0)
                x = round(sender[0] + (receiver[0] - sender[0]) * part)
                y = round(sender[1] + (receiver[1] - sender[1]) * part)
                if (x, y) not in self._taken:
                    canvas.write(x, y, _arrow(transfer.kind, sender, receiver), transfer.kind)
        return canvas.picture()

    def _ring(self, width: int, height: int) -> dict[str, tuple[int, int]]:
        """A cell for each node's sign: an ellipse, the first at the top, clockwise by name."""
        count = len(self._shown)
        label = max((cell_len(_labels(place, roomy=self._roomy)[0]) for place in self._shown), default=0)
        across = max(width / 2 - min(label + 2, width / 3), 1.0)
        down = max((height - 1) / 2, 1.0)
        if count == 1:
            return {self._shown[0].node_id: (width // 2, height // 2)}
        spots = {}
        for index, place in enumerate(self._shown):
            angle = 2 * math.pi * index / count - math.pi / 2
            x = (width - 1) / 2 + across * math.cos(angle)
            y = (height - 1) / 2 + down * math.sin(angle)
            spots[place.node_id] = (round(x), round(y))
        return spots

    def _draw_links(self, aggregator: str) -> None:
        """Whole lines: participants of the chosen run, each joined to the aggregator. Dotted: peers joined to us."""
        crowded = len(self._shown) > CROWDED_FROM
        ours = next((place.node_id for place in self._shown if place.ourselves), "")
        for place in self._shown:
            at_work = aggregator in self._spots and place.state != "" and place.here and not place.aggregator
            if at_work:
                self._link(aggregator, place.node_id, "work", RANK_WORK, every=2 if crowded else 1)
            elif ours and place.here and not place.ourselves and not (crowded and aggregator):
                self._link(ours, place.node_id, "link", RANK_LINK, every=4)

    def _link(self, one: str, other: str, style: str, rank: int, every: int) -> None:
        (x0, y0), (x1, y1) = self._spots[one], self._spots[other]
        self._still.line(x0 * 2 + 1, y0 * 4 + 2, x1 * 2 + 1, y1 * 4 + 2, style, rank, every)

    def _draw_nodes(self) -> None:
        """Signs for all, then names as far as there is room, the most telling nodes' first."""
        ranked = sorted(self._shown, key=_weight)
        taken = self._taken
        for place in ranked:
            room = self._room_for_label(place, taken)
            if room is not None:
                start, row, label = room
                taken.update((column, row) for column in range(start, start + len(label)))
                self._still.write(start, row, label, _style(place))
        for place in reversed(ranked):
            self._still.write(*self._spots[place.node_id], _sign(place), _style(place))
        if self._left_out:
            self._still.write(0, self._still.height - 1, f"and {self._left_out} more", "dim")

    def _room_for_label(self, place: Place, taken: set[tuple[int, int]]) -> tuple[int, int, str] | None:
        """Where a name goes, and how much of it: its start, its row, its text; None where there is no room."""
        x, y = self._spots[place.node_id]
        for label in _labels(place, roomy=self._roomy):
            size = cell_len(label)
            for start, row in self._label_spots(place, x, y, size):
                inside = start >= 0 and start + size <= self._still.width and 0 <= row < self._still.height
                around = {(column, row) for column in range(start - 1, start + size + 1)} - {(x, y)}
                if inside and not around & taken:
                    return start, row, label
        return None

    def _label_spots(self, place: Place, x: int, y: int, size: int) -> Iterator[tuple[int, int]]:
        """Beside the sign, outwards first, else above or below; in a crowd ordinary nodes only outwards."""
        right, left = (x + 2, y), (x - 1 - size, y)
        outwards, inwards = (right, left) if x >= (self._still.width - 1) / 2 - 1 else (left, right)
        yield outwards
        weighty = place.aggregator or place.ourselves
        if len(self._shown) <= CROWDED_FROM or weighty:
            yield inwards
            middle = min(max(x - size // 2, 0), self._still.width - size)
            for away in range(1, 5 if weighty else 2):
                yield from ((middle, y - away), (middle, y + away))
        if weighty:  # else in a corner, where it still says who it is
            far, low = self._still.width - size, self._still.height - 1
            yield from ((0, 0), (far, 0), (0, low), (far, low))


def _most_telling(places: tuple[Place, ...]) -> tuple[Place, ...]:
    kept = {place.node_id for place in sorted(places, key=_weight)[:NODES_SHOWN_MAX]}
    return tuple(sorted((p for p in places if p.node_id in kept), key=lambda p: (p.name, p.node_id)))


def _weight(place: Place) -> tuple[object, ...]:
    return (not place.aggregator, not place.ourselves, not place.state, place.here, place.name, place.node_id)


def _sign(place: Place) -> str:
    if place.aggregator:
        return CROWN
    if not place.here:
        return state_sign("LOST")
    return state_sign(place.state) if place.state else "○"


def _style(place: Place) -> str:
    if place.aggregator:
        return "crown" if place.here else "bad"
    if not place.here:
        return "dim"
    if place.ourselves:
        return "self"
    return "bad" if place.state in ("LOST", "FAILED") else "" if place.state else "dim"


def _labels(place: Place, *, roomy: bool) -> list[str]:
    """What could stand beside a sign, the fullest first."""
    name = shortened(place.name, NAME_WIDTH_MAX)
    marks = [mark for mark, true in (("(us)", place.ourselves), ("aggregator", place.aggregator)) if true]
    if not place.here:
        marks.append("away")
    brief = " ".join([name, *marks])
    if place.aggregator:
        return [brief, "aggregator", name]
    if roomy and place.here and place.state:
        return [f"{brief} {place.state.lower()}", brief, name]
    return [brief, name]


def _arrow(kind: str, sender: tuple[int, int], receiver: tuple[int, int]) -> str:
    """The arrow nearest to the way, seen by eye: a terminal's cell is twice as high as wide."""
    angle = math.atan2((receiver[1] - sender[1]) * 2, receiver[0] - sender[0])
    return ARROWS.get(kind, ARROWS["update"])[round(angle / (math.pi / 4)) % 8]
