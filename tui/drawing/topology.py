"""Draws the nodes of our groups, who is joined to whom, and what is on its way between them.

Nodes stand on a ring, a member's beside each other, or where that would be a crowd in rows, a member after another.
Places depend on names alone, so nodes stay where they are when the aggregator changes or a peer goes away.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.cells import cell_len

from tui.drawing.picture import Canvas, Picture
from tui.drawing.rings import Spot, nearest_towards, ring, rows_apart, rows_filled
from tui.drawing.words import CROWN, bytes_text, rtt_text, shortened, state_sign
from tui.facts.nodes import Transfer

NODES_SHOWN_MAX = 512  # the largest field of signs that one still takes in
NAME_WIDTH_MAX = 16
CROWDED_FROM = 12  # with more nodes, lines are thinned out, so that the signs stay in sight
ROOMY_WIDTH = 56  # from here on a node's state stands beside its name
LINK_LABEL_AT = 0.5  # of the way from us to a peer: far from the names at both ends
LINK_CELLS_MIN = 8  # a shorter line has no room for a word on it
RATE_SHOWN_FROM = 1000.0  # bytes a second: below it is what idle links say to each other
ARROWS = {"update": "→↘↓↙←↖↑↗", "checkpoint": "⇒⇘⇓⇙⇐⇖⇑⇗"}  # by eighths of a turn, clockwise from the right
RANK_LINK, RANK_WORK = 1, 2


@dataclass(frozen=True, slots=True)
class Place:
    """One node as the drawing shows it. `state`: its part in the chosen run, or empty. `member`: whose it is, by name.

    `rtt_s`, `rate` (bytes a second, both ways) and `relayed` are of the link between it and our own node.
    """

    node_id: str
    name: str
    ourselves: bool = False
    here: bool = True
    aggregator: bool = False
    state: str = ""
    member: str = ""
    rtt_s: float | None = None
    rate: float = 0.0
    relayed: bool = False


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
        self._still = Canvas(width, height)
        self._roomy = width >= ROOMY_WIDTH
        self._shown = _most_telling(scene.places, NODES_SHOWN_MAX)
        members = Counter(place.member for place in self._shown)
        self._owners = {member for member, nodes in members.items() if member and 1 < nodes < len(self._shown)}
        self._spots = self._ring()
        self._is_ring = bool(self._spots)
        if not self._is_ring:
            self._spots = self._field()
        self._left_out = len(scene.places) - len(self._shown)
        self._taken = {
            spot: node for node, spot in self._spots.items()
        }  # cells of signs and names: nothing covers them
        self._draw_links(scene.aggregator)
        self._draw_nodes()

    @property
    def order(self) -> tuple[str, ...]:
        """The nodes that are drawn, round the ring or row after row."""
        return tuple(self._spots)

    def node_at(self, x: int, y: int) -> str:
        """The node whose sign or name is at this cell, or beside it; empty where there is none."""
        return next((self._taken[x + dx, y] for dx in (0, -1, 1) if (x + dx, y) in self._taken), "")

    def towards(self, node_id: str, dx: int, dy: int) -> str:
        """The next node in a direction, as the eye sees it; the same where there is none."""
        return nearest_towards(self._spots, node_id, dx, dy)

    def picture(self, moving: Sequence[Transfer], now: float, shown_s: float, selected: str = "") -> Picture:
        """The drawing with each transfer's arrow as far on its way as its age, of `shown_s` seconds, says."""
        canvas = self._still.copy() if moving or selected in self._spots else self._still
        for transfer in moving:
            sender, receiver = self._spots.get(transfer.sender), self._spots.get(transfer.receiver)
            if sender and receiver and sender != receiver:
                part = 0.2 + 0.6 * min(max((now - transfer.at) / shown_s, 0.0), 1.0)
                x = round(sender[0] + (receiver[0] - sender[0]) * part)
                y = round(sender[1] + (receiver[1] - sender[1]) * part)
                if (x, y) not in self._taken:
                    canvas.write(x, y, _arrow(transfer.kind, sender, receiver), transfer.kind)
        if selected in self._spots:
            self._mark(canvas, selected)
        return canvas.picture()

    def _mark(self, canvas: Canvas, selected: str) -> None:
        """Point at the selected node from both sides, and put its member's other nodes in brackets."""
        chosen = next(each for each in self._shown if each.node_id == selected)
        for place in self._shown:
            if place is not chosen and not (place.member and place.member == chosen.member):
                continue
            x, y = self._spots[place.node_id]
            for column, sign in zip((x - 1, x + 1), "▸◂" if place is chosen else "()", strict=True):
                canvas.write(column, y, sign, "key")
            canvas.write(x, y, _sign(place), "here" if place is chosen else _style(place))

    # Places

    def _ring(self) -> dict[str, Spot]:
        """A cell for each node's sign, on an ellipse; nothing where signs would run into each other."""
        label = max((cell_len(self._labels(place)[0]) for place in self._shown), default=0)
        spots = ring(len(self._shown), self._still.width, self._still.height, label)
        return {place.node_id: spot for place, spot in zip(self._shown, spots, strict=False)}

    def _field(self) -> dict[str, Spot]:
        """Rows of signs, above a caption: each member's after its name if there is room, else all that there is."""
        width, height = self._still.width, max(self._still.height - 1, 1)
        members = [(member, len(list(nodes))) for member, nodes in groupby(self._shown, lambda place: place.member)]
        left = min(max((cell_len(member) for member, _ in members), default=0), NAME_WIDTH_MAX, width // 3) + 2
        room = rows_apart([size for _, size in members], left, width, height)
        for index, place in enumerate(self._shown if room else ()):
            if index == 0 or place.member != self._shown[index - 1].member:
                self._still.write(0, room[index][1], shortened(place.member, left - 2), "dim")
        room = room or rows_filled(len(self._shown), width, height)
        self._shown = _most_telling(self._shown, len(room))
        return {place.node_id: spot for place, spot in zip(self._shown, room, strict=False)}

    @property
    def _crowded(self) -> bool:
        return len(self._shown) > CROWDED_FROM

    # Lines

    def _draw_links(self, aggregator: str) -> None:
        """Whole lines: participants of the chosen run, each joined to the aggregator. Dotted: peers joined to us."""
        ours = next((place.node_id for place in self._shown if place.ourselves), "")
        for place in self._shown:
            at_work = aggregator in self._spots and place.state != "" and place.here and not place.aggregator
            if at_work and self._is_ring:
                self._link(aggregator, place.node_id, "work", RANK_WORK, every=2 if self._crowded else 1)
            if ours and place.here and not place.ourselves and not self._crowded:
                if not (at_work and aggregator == ours) and not (place.aggregator and self._works(ours)):
                    self._link(ours, place.node_id, "link", RANK_LINK, every=4)
                self._label_link(ours, place)

    def _works(self, node: str) -> bool:
        return any(place.node_id == node and place.state and place.here for place in self._shown)

    def _link(self, one: str, other: str, style: str, rank: int, every: int) -> None:
        (x0, y0), (x1, y1) = self._spots[one], self._spots[other]
        self._still.line(x0 * 2 + 1, y0 * 4 + 2, x1 * 2 + 1, y1 * 4 + 2, style, rank, every)

    def _label_link(self, ours: str, place: Place) -> None:
        words = _link_words(place, roomy=self._roomy)
        (x0, y0), (x1, y1) = self._spots[ours], self._spots[place.node_id]
        if not words or max(abs(x1 - x0), 2 * abs(y1 - y0)) < LINK_CELLS_MIN:
            return
        x = round(x0 + (x1 - x0) * LINK_LABEL_AT) - cell_len(words) // 2
        y = round(y0 + (y1 - y0) * LINK_LABEL_AT)
        cells = {(column, y) for column in range(x - 1, x + cell_len(words) + 1)}
        if x >= 0 and x + cell_len(words) <= self._still.width and not cells & self._taken.keys():
            self._taken.update(dict.fromkeys(((column, y) for column in range(x, x + cell_len(words))), place.node_id))
            self._still.write(x, y, words, "dim")

    # Names

    def _draw_nodes(self) -> None:
        """Signs for all, then names as far as there is room, the most telling nodes' first."""
        ranked = sorted(self._shown, key=_weight)
        for place in ranked if self._is_ring else ():
            room = self._room_for_label(place)
            if room is not None:
                start, row, label = room
                self._taken.update(dict.fromkeys(((at, row) for at in range(start, start + len(label))), place.node_id))
                self._still.write(start, row, label, _style(place))
        for place in reversed(ranked):
            self._still.write(*self._spots[place.node_id], _sign(place), _style(place))
        self._caption(next((place for place in ranked if place.aggregator), None))

    def _caption(self, aggregator: Place | None) -> None:
        words = [f"and {self._left_out} more"] if self._left_out else []
        if aggregator is not None and not self._is_ring:
            room = self._still.width - sum(map(cell_len, words)) - 16
            words.insert(0, f"{CROWN} {shortened(aggregator.name, max(room, 1))} aggregator")
        self._still.write(0, self._still.height - 1, "  ".join(words), "dim")

    def _room_for_label(self, place: Place) -> tuple[int, int, str] | None:
        """Where a name goes, and how much of it: its start, its row, its text; None where there is no room."""
        x, y = self._spots[place.node_id]
        for label in self._labels(place):
            size = cell_len(label)
            for start, row in self._label_spots(place, x, y, size):
                inside = start >= 0 and start + size <= self._still.width and 0 <= row < self._still.height
                around = {(column, row) for column in range(start - 1, start + size + 1)} - {(x, y)}
                if inside and not around & self._taken.keys():
                    return start, row, label
        return None

    def _labels(self, place: Place) -> list[str]:
        """What could stand beside a sign, the fullest first. Whose it is, where that tells nodes apart."""
        name = shortened(place.name, NAME_WIDTH_MAX)
        marks = [mark for mark, true in (("(us)", place.ourselves), ("aggregator", place.aggregator)) if true]
        if not place.here:
            marks.append("away")
        brief = " ".join([name, *marks])
        full = f"{brief} {place.state.lower()}" if place.here and place.state and not place.aggregator else brief
        if self._roomy and place.member in self._owners:
            full += f" · {shortened(place.member, NAME_WIDTH_MAX)}"
        if place.aggregator:
            return [*([full] if self._roomy else []), brief, "aggregator", name]
        return [full, brief, name] if self._roomy else [brief, name]

    def _label_spots(self, place: Place, x: int, y: int, size: int) -> Iterator[Spot]:
        """Beside the sign, outwards first, else above or below; in a crowd ordinary nodes only outwards."""
        right, left = (x + 2, y), (x - 1 - size, y)
        outwards, inwards = (right, left) if x >= (self._still.width - 1) / 2 - 1 else (left, right)
        yield outwards
        weighty = place.aggregator or place.ourselves
        if not self._crowded or weighty:
            yield inwards
            middle = min(max(x - size // 2, 0), self._still.width - size)
            for away in range(1, 5 if weighty else 2):
                yield from ((middle, y - away), (middle, y + away))
        if weighty:  # else in a corner, where it still says who it is
            far, low = self._still.width - size, self._still.height - 1
            yield from ((0, 0), (far, 0), (0, low), (far, low))


def _most_telling(places: tuple[Place, ...], count: int) -> tuple[Place, ...]:
    kept = {place.node_id for place in sorted(places, key=_weight)[:count]}
    return tuple(sorted((p for p in places if p.node_id in kept), key=lambda p: (p.member, p.name, p.node_id)))


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


def _link_words(place: Place, *, roomy: bool) -> str:
    """What is known of the link to a peer, in a few words."""
    words = [rtt_text(place.rtt_s)] if place.rtt_s is not None else []
    if roomy and place.rate >= RATE_SHOWN_FROM:
        words.append(f"{bytes_text(round(place.rate))}/s")
    return " ".join([*words, *(["relayed"] if place.relayed else [])])


def steady(place: Place) -> Place:
    """The place with its link's figures as coarse as they are shown: what looks alike is drawn once."""
    rtt = None if place.rtt_s is None else float(f"{place.rtt_s:.1e}")
    return replace(place, rtt_s=rtt, rate=float(f"{place.rate:.1e}") if place.rate >= RATE_SHOWN_FROM else 0.0)


def _arrow(kind: str, sender: Spot, receiver: Spot) -> str:
    """The arrow nearest to the way, seen by eye: a terminal's cell is twice as high as wide."""
    angle = math.atan2((receiver[1] - sender[1]) * 2, receiver[0] - sender[0])
    return ARROWS.get(kind, ARROWS["update"])[round(angle / (math.pi / 4)) % 8]
