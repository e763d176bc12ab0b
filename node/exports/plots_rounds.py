"""When a run's rounds were made, and by whom: a lane for each aggregator, a bar for each round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.exports.plots import (
    CHARACTER_WIDTH,
    SERIES_STYLES,
    Box,
    Drawing,
    Label,
    Scale,
    Stroke,
    cells,
    shortened,
    tick_text,
    ticks,
    time_unit,
)

LANES_MAX = 40
LANE, BAR = 24.0, 16.0  # heights
TOP, BOTTOM = 40.0, 36.0
BAR_WIDTH_MIN = 1.0  # a quick round of a long run is still to be seen


@dataclass(frozen=True, slots=True)
class Made:
    """A committed round: when, in seconds since the epoch, and how long it took."""

    round: int
    term: int
    aggregator: str
    committed_at: float
    seconds: float
    used: int
    refused: int


def rounds_chart(
    rounds: Sequence[Made],
    elections: Sequence[tuple[int, str, float]],
    names: Mapping[str, str],
    *,
    title: str,
    width: float = 720.0,
) -> Drawing:
    """`elections`: term, aggregator, time. Where updates were refused the bar has a stripe under it."""
    lanes = list(dict.fromkeys([*(each.aggregator for each in rounds), *(who for _, who, _ in elections)]))[:LANES_MAX]
    drawing = Drawing(width, TOP + LANE * max(len(lanes), 1) + BOTTOM, title)
    drawing.shapes.append(Label(8, 16, title, "ink"))
    if not rounds:
        drawing.shapes.append(Label(width / 2, TOP + LANE, "no round is committed yet", "quiet", "middle"))
        return drawing
    start = min(each.committed_at - each.seconds for each in rounds)
    end = max(max(each.committed_at for each in rounds), start + 1e-3)
    unit, unit_name = time_unit(end - start)
    named = {lane: shortened(names.get(lane) or lane[-8:], 18) for lane in lanes}
    left = 16 + CHARACTER_WIDTH * max(map(cells, named.values()))
    x = Scale(0.0, (end - start) / unit, left, width - 16)
    _lanes(drawing, lanes, named, x, unit_name)
    seen = [(term, (at - start) / unit) for term, _, at in elections if start <= at <= end]
    draw_elections(drawing, seen, x, TOP, TOP + LANE * len(lanes))
    for each in rounds:
        if each.aggregator in lanes:
            lane = lanes.index(each.aggregator)
            begun, done = (each.committed_at - each.seconds - start) / unit, (each.committed_at - start) / unit
            _bar(drawing, each, lane, x(begun), x(done), named[each.aggregator])
    return drawing


def _lanes(drawing: Drawing, lanes: Sequence[str], named: Mapping[str, str], x: Scale, unit: str) -> None:
    for place, lane in enumerate(lanes):
        middle = TOP + LANE * place + LANE / 2
        drawing.shapes.append(Label(x.first - 8, middle + 4, named[lane], "ink", "end"))
        drawing.shapes.append(Stroke(((x.first, middle), (x.last, middle)), "grid"))
    draw_time_axis(drawing, x, TOP + LANE * len(lanes), unit)


def draw_time_axis(drawing: Drawing, x: Scale, bottom: float, unit: str) -> None:
    drawing.shapes.append(Stroke(((x.first, bottom), (x.last, bottom)), "axis"))
    marks = ticks(x.low, x.high, (x.last - x.first) / 75)
    for mark in marks:
        drawing.shapes.append(Stroke(((x(mark), bottom), (x(mark), bottom + 4)), "axis"))
        drawing.shapes.append(Label(x(mark), bottom + 16, tick_text(mark, marks), "quiet", "middle"))
    drawing.shapes.append(Label((x.first + x.last) / 2, bottom + 30, f"time, {unit}", "quiet", "middle"))


def draw_elections(
    drawing: Drawing, elections: Sequence[tuple[int, float]], x: Scale, top: float, bottom: float
) -> None:
    """`elections`: term, and when, in units of `x`. Each is a dashed line, with its term above where there is room."""
    free_from = x.first
    for term, at in elections:
        place, text = x(at), f"term {term}"
        line = ((place, top - 6), (place, bottom))
        drawing.shapes.append(Stroke(line, "warn", 1.0, (3, 3), title=f"elected in term {term}"))
        if place >= free_from:
            drawing.shapes.append(Label(min(place, x.last - CHARACTER_WIDTH * len(text)), top - 9, text, "warn"))
            free_from = place + CHARACTER_WIDTH * (len(text) + 1)


def _bar(drawing: Drawing, made: Made, lane: int, begun: float, done: float, name: str) -> None:
    top = TOP + LANE * lane + (LANE - BAR) / 2
    title = f"round {made.round}: {made.seconds:.3g} s by {name} in term {made.term}, {made.used} updates used"
    title += f", {made.refused} refused" if made.refused else ""
    width = max(done - begun - 1, BAR_WIDTH_MIN)  # a unit stays free between two rounds
    drawing.shapes.append(Box(begun, top, width, BAR, f"series-{lane % SERIES_STYLES}", title))
    if made.refused:
        drawing.shapes.append(Box(begun, top + BAR + 1, width, 3, "bad", title))
    if width > CHARACTER_WIDTH * (len(str(made.round)) + 1):
        drawing.shapes.append(Label(begun + width / 2, top + 12, str(made.round), "page", "middle"))
