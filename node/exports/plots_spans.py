"""What every node was busy with, and when: a lane for each node, in it a row for its own work, for the round's sum, and
for what it moved; waiting is a line. Bars too narrow to be told apart become one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from node.exports.plots import (
    CHARACTER_WIDTH,
    Box,
    Drawing,
    Label,
    Scale,
    Stroke,
    cells,
    shortened,
    time_unit,
)
from node.exports.plots_rounds import BOTTOM, LANES_MAX, TOP, draw_elections, draw_time_axis

LANE, ROW = 28.0, 8.0  # heights; a row's bars leave a unit free below them
LEGEND = 16.0
BAR_WIDTH_MIN, GAP_MIN = 1.0, 0.6  # units; what lies nearer together is drawn as one
WAIT = "wait"
_ROWS: Mapping[str, int] = {"train": 0, "evaluate": 0, "aggregate": 1, "encode": 2, "upload": 2, "fetch": 2}
_STYLES: Mapping[str, str] = {
    "train": "series-0",
    "evaluate": "series-3",
    "aggregate": "series-2",
    "encode": "series-6",
    "upload": "series-1",
    "fetch": "series-4",
}
_OTHERS = ("series-5", "series-7")  # a task's own


@dataclass(frozen=True, slots=True)
class Span:
    """What a node did in a round; times in seconds since the epoch."""

    node: str
    round: int
    name: str
    peer: str
    started_at: float
    seconds: float
    bytes: int = 0

    @property
    def ended_at(self) -> float:
        return self.started_at + self.seconds


def spans_chart(
    spans: Sequence[Span],
    elections: Sequence[tuple[int, str, float]],
    commits: Sequence[tuple[int, float]],
    names: Mapping[str, str],
    *,
    title: str,
    width: float = 720.0,
) -> Drawing:
    """`elections`: term, aggregator, time; `commits`: round, and when it was committed. Most busy nodes where there are
    more than LANES_MAX of them."""
    lanes = _lanes_of(spans, names)
    top = TOP + LEGEND
    bottom = top + LANE * max(len(lanes), 1)
    drawing = Drawing(width, bottom + BOTTOM, title)
    drawing.shapes.append(Label(8, 16, title, "ink"))
    if not lanes:
        drawing.shapes.append(Label(width / 2, top + LANE / 2, "no spans are recorded", "quiet", "middle"))
        return drawing
    shown = [span for span in spans if span.node in lanes]
    start = min(span.started_at for span in shown)
    end = max(max(span.ended_at for span in shown), start + 1e-3)
    unit, unit_name = time_unit(end - start)
    named = {lane: shortened(names.get(lane) or lane[-8:], 18) for lane in lanes}
    left = 16 + CHARACTER_WIDTH * max(map(cells, named.values()))
    x = Scale(0.0, (end - start) / unit, left, width - 16)

    def place_of(at: float) -> float:
        return x((at - start) / unit)

    _legend(drawing, list(dict.fromkeys(span.name for span in shown)), left)
    for number, at in commits:
        if start <= at <= end:
            _commit(drawing, number, place_of(at), top, bottom)
    for place, lane in enumerate(lanes):
        middle = top + LANE * place + LANE / 2
        if place:
            drawing.shapes.append(Stroke(((left, middle - LANE / 2), (width - 16, middle - LANE / 2)), "grid"))
        drawing.shapes.append(Label(left - 8, middle + 4, named[lane], "ink", "end"))
        mine = [span for span in shown if span.node == lane]
        _lane(drawing, mine, top + LANE * place, place_of, names)
    seen = [(term, (at - start) / unit) for term, _, at in elections if start <= at <= end]
    draw_elections(drawing, seen, x, top, bottom)
    draw_time_axis(drawing, x, bottom, unit_name)
    return drawing


def newest_that_fit(spans: Sequence[Span], count_max: int) -> list[Span]:
    """Those of as many newest rounds as have no more than `count_max` together; of the newest round in any case."""
    counts = Counter(span.round for span in spans)
    first, left = max(counts, default=0), count_max
    for number in sorted(counts, reverse=True):
        left -= counts[number]
        if left < 0:
            break
        first = number
    return [span for span in spans if span.round >= first]


def seconds_by_name(spans: Iterable[Span]) -> dict[str, dict[str, float]]:
    """Of each node the seconds that it spent on what."""
    found: dict[str, dict[str, float]] = {}
    for span in spans:
        mine = found.setdefault(span.node, {})
        mine[span.name] = mine.get(span.name, 0.0) + span.seconds
    return found


def _lanes_of(spans: Sequence[Span], names: Mapping[str, str]) -> list[str]:
    busy = {node: sum(s for name, s in spent.items() if name != WAIT) for node, spent in seconds_by_name(spans).items()}
    chosen = sorted(busy, key=lambda node: -busy[node])[:LANES_MAX]
    return sorted(chosen, key=lambda node: (names.get(node, ""), node))


def _style(name: str) -> str:
    return _STYLES.get(name) or _OTHERS[sum(name.encode()) % len(_OTHERS)]


def _legend(drawing: Drawing, present: Sequence[str], left: float) -> None:
    place = left
    for name in [name for name in (*_STYLES, *sorted(set(present) - set(_STYLES))) if name in present]:
        text = shortened(name)
        if name == WAIT:
            drawing.shapes.append(Stroke(((place, TOP - 13), (place + 9, TOP - 13)), "axis", 2.0))
        else:
            drawing.shapes.append(Box(place, TOP - 17, 9, 8, _style(name)))
        drawing.shapes.append(Label(place + 13, TOP - 9, text, "quiet"))
        place += 13 + CHARACTER_WIDTH * (cells(text) + 2)


def _commit(drawing: Drawing, number: int, place: float, top: float, bottom: float) -> None:
    line = ((place, top), (place, bottom))
    drawing.shapes.append(Stroke(line, "axis", 1.0, (1, 3), title=f"round {number} is committed"))


def _lane(
    drawing: Drawing, spans: Sequence[Span], top: float, x: Callable[[float], float], names: Mapping[str, str]
) -> None:
    by_row: dict[tuple[int, str], list[Span]] = {}
    for span in sorted(spans, key=lambda one: one.started_at):
        by_row.setdefault((-1 if span.name == WAIT else _ROWS.get(span.name, 0), span.name), []).append(span)
    for (row, name), some in sorted(by_row.items()):
        for group in _groups(some, x):
            begun, done = x(group[0].started_at), max(x(span.ended_at) for span in group)
            long = max(done - begun, BAR_WIDTH_MIN)
            if row < 0:
                middle = top + LANE / 2
                line = ((begun, middle), (begun + long, middle))
                drawing.shapes.append(Stroke(line, "axis", 2.0, title=_title(group, names)))
                continue
            drawing.shapes.append(Box(begun, top + 2 + ROW * row, long, ROW - 1, _style(name), _title(group, names)))


def _groups(spans: Sequence[Span], x: Callable[[float], float]) -> list[list[Span]]:
    """Spans in order; those whose bars would touch come together."""
    groups: list[list[Span]] = []
    reach = 0.0
    for span in spans:
        begun, done = x(span.started_at), x(span.ended_at)
        is_narrow = done - begun < 2 * BAR_WIDTH_MIN
        if groups and begun - reach < GAP_MIN and (is_narrow or begun < reach - GAP_MIN):
            groups[-1].append(span)
        else:
            groups.append([span])
            reach = begun
        reach = max(reach, done, begun + BAR_WIDTH_MIN)
    return groups


def _title(spans: Sequence[Span], names: Mapping[str, str]) -> str:
    first, seconds = spans[0], sum(span.seconds for span in spans)
    moved = sum(span.bytes for span in spans)
    told = f"{seconds:.3g} s" + (f", {moved / 1e6:.3g} MB" if moved else "")
    if len(spans) > 1:
        rounds = sorted({span.round for span in spans})
        which = f"rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"round {rounds[0]}"
        return f"{first.name}, {len(spans)} times in {which}: {told}"
    with_whom = f" with {names.get(first.peer) or first.peer[-8:]}" if first.peer else ""
    return f"{first.name}{with_whom} in round {first.round}: {told}"
