"""Draws curves: a thin line for each node, a strong one for their mean, over rounds, steps or time.

Lines are named where they end, at the right edge, so that they can be told apart without colours. With a cursor the
names have the values under it in place of the last ones. What befell the run is marked on the axis, by signs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.cells import cell_len

from tui.drawing.axes import Frame, nearest, nice_ticks, place_text, place_ticks, tick_text
from tui.drawing.picture import Canvas, Picture
from tui.drawing.words import shortened, value_text
from tui.facts.curves import CurveSet, Points

SERIES_STYLES = 8  # how many different colours tui.widgets.look has for nodes
MEAN_STYLE, HIGHLIGHT_STYLE, AXIS_STYLE, HINT_STYLE = "mean", "highlight", "axis", "dim"
CURSOR_STYLE = "key"
RANK_NODE, RANK_MEAN, RANK_HIGHLIGHT, RANK_CURSOR = 1, 2, 3, 4
MARK_DOTS = 4  # between two dots of a mark's line: it is not to be taken for a curve
MARK_NEAR_DOTS = 2  # of the cursor: then it says what the mark is
LABELS_FROM_WIDTH = 40  # below it the names would leave too little room for the curves
NAME_WIDTH_MAX = 14
TICK_ROWS = 3  # one y label in so many rows, about
TICK_COLUMNS = 8  # one x label in so many columns, about
SIZE_LEAST = 1e-300  # parts of smaller figures come to nothing in floating point: they are drawn as zeros
FLAT = 1e-9  # curves whose values differ by less than this part of them are flat, and still need a range


WHOLE = Frame()


class Mark(NamedTuple):
    """Something that befell the run: its place on the axis, its sign, and it in words."""

    place: float
    sign: str
    style: str
    words: str


class End(NamedTuple):
    """Where a curve ends, and what is written there."""

    row: int
    name: str
    value: float
    style: str


@dataclass(frozen=True, slots=True)
class Scale:
    """How values become dots. Dots count from the upper left of the plot."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    dots_across: int
    dots_down: int

    def x(self, value: float) -> int:
        return round((value - self.x_low) / (self.x_high - self.x_low) * (self.dots_across - 1))

    def y(self, value: float) -> int:
        return round((self.y_high - value) / (self.y_high - self.y_low) * (self.dots_down - 1))


def draw_chart(
    curves: CurveSet | None,
    names: Mapping[str, str],
    width: int,
    height: int,
    highlight: str = "",
    *,
    frame: Frame = WHOLE,
    marks: Sequence[Mark] = (),
) -> Picture:
    """The curves in `width` × `height` cells. `names` gives nodes their names; `highlight` is a node to bring out."""
    if curves is None or curves.empty:
        return draw_hint("no metrics yet", "curves begin with the first round", width, height)
    x_low, x_high = frame.window(*extent(curves))
    seen = seen_of(curves, x_low, x_high)
    if seen.empty:
        return draw_hint("no figures in this part", "0 shows all of the run", width, height)
    low, high = _value_range(seen)
    ticks = nice_ticks(low, high, max(height // TICK_ROWS, 3))
    left, plot_width, labels = _columns(ticks, curves, names, width)
    plot_height = height - 2
    if plot_width < 4 or plot_height < 2:
        return draw_hint("too small for curves", "", width, height)
    scale = Scale(x_low, x_high, low, high, plot_width * 2, plot_height * 4)
    canvas = Canvas(width, height)
    _draw_marks(canvas, marks, scale, left + 1, plot_height)
    _draw_axes(canvas, scale, ticks, left, plot_width, plot_height)
    ends = _draw_curves(canvas, seen, names, scale, left + 1, highlight)
    cursor = frame.cursor if frame.cursor is not None and x_low <= frame.cursor <= x_high else None
    told = (0, "") if cursor is None else _cursor_words(cursor, curves.axis, marks, scale, left + 1, width)
    _draw_places(canvas, curves.axis, scale, left, plot_width, plot_height, told)
    _write_signs(canvas, marks, scale, left + 1, plot_height)
    if cursor is not None:
        ends = _ends_at(cursor, curves, names, scale, highlight)
        _draw_cursor(canvas, cursor, scale, left + 1, plot_height)
        if not labels and ends:
            text = f"{ends[0].name} {value_text(ends[0].value)}"
            canvas.write(width - len(text), 0, text, ends[0].style)
    if labels:
        _draw_labels(canvas, ends, left + 1 + plot_width, labels, plot_height)
    return canvas.picture()


def _columns(ticks: Sequence[float], curves: CurveSet, names: Mapping[str, str], width: int) -> tuple[int, int, int]:
    """How many columns the ticks' texts, the plot and the names at its right edge take."""
    left = max(len(tick_text(tick, ticks)) for tick in ticks) + 1
    labels = _label_width(curves, names) if width >= LABELS_FROM_WIDTH else 0
    return left, width - left - 1 - labels, labels


def place_at(
    column: int, curves: CurveSet, names: Mapping[str, str], width: int, height: int, frame: Frame = WHOLE
) -> float | None:
    """At which figure's place a column of the drawing is; None beside the curves."""
    low, high = frame.window(*extent(curves))
    seen = seen_of(curves, low, high)
    if seen.empty:
        return None
    ticks = nice_ticks(*_value_range(seen), max(height // TICK_ROWS, 3))
    left, plot_width, _ = _columns(ticks, curves, names, width)
    share = (column - left - 1) / max(plot_width - 1, 1)
    return nearest(low + share * (high - low), places_of(curves)) if 0 <= share <= 1 else None


def extent(curves: CurveSet) -> tuple[float, float]:
    """From where to where the curves go."""
    ends = [points[end][0] for points in _lines(curves) for end in (0, -1)]
    return (min(ends), max(*ends, min(ends) + 1)) if ends else (0.0, 1.0)


def places_of(curves: CurveSet) -> list[float]:
    """Every place at which some curve has a figure, from left to right."""
    return sorted({place for points in _lines(curves) for place, _ in points})


def seen_of(curves: CurveSet, low: float, high: float) -> CurveSet:
    """The part of the curves between two places, up to the very edges."""
    nodes = {node: inside(points, low, high) for node, points in curves.nodes.items()}
    return replace(curves, nodes=nodes, mean=inside(curves.mean, low, high))


def inside(points: Points, low: float, high: float) -> Points:
    """The points between two places; where the line goes on beyond, also those at which it crosses the edge."""
    first = bisect_left(points, low, key=_place)
    last = bisect_right(points, high, key=_place)
    kept = points[first:last]
    if 0 < first < len(points) and points[first][0] > low:
        kept = [_between(points[first - 1], points[first], low), *kept]
    if 0 < last < len(points) and points[last - 1][0] < high:
        kept = [*kept, _between(points[last - 1], points[last], high)]
    return kept


def _place(point: tuple[float, float]) -> float:
    return point[0]


def _between(one: tuple[float, float], other: tuple[float, float], place: float) -> tuple[float, float]:
    share = (place - one[0]) / (other[0] - one[0])
    return place, one[1] + (other[1] - one[1]) * share


def _lines(curves: CurveSet) -> Iterable[Points]:
    return (points for points in (*curves.nodes.values(), curves.mean) if points)


def draw_hint(first: str, second: str, width: int, height: int) -> Picture:
    """Two lines of text in the middle of nothing."""
    canvas = Canvas(width, height)
    for offset, line in enumerate((first, second)):
        canvas.write(max((width - len(line)) // 2, 0), max(height // 2 - 1, 0) + offset, line, HINT_STYLE)
    return canvas.picture()


def thinned(points: Points, scale: Scale) -> list[tuple[int, int]]:
    """Dots to join by lines: where many rounds share one column of dots, its lowest and highest value alone."""
    dots: list[tuple[int, int]] = []
    column: list[int] = []
    for at, value in points:
        x, y = scale.x(at), scale.y(value)
        if dots and dots[-1][0] == x:
            column.append(y)
            continue
        dots.extend((dots[-1][0], extreme) for extreme in _extremes(column))
        dots.append((x, y))
        column = []
    dots.extend((dots[-1][0], extreme) for extreme in _extremes(column))
    return dots


def _extremes(column: list[int]) -> list[int]:
    return [min(column), max(column), column[-1]] if column else []


def _value_range(curves: CurveSet) -> tuple[float, float]:
    """The lowest and highest value with a little air, but none beyond 0 and 1 for what stays inside them."""
    values = [value for points in _lines(curves) for _, value in points]
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    size = size if size > SIZE_LEAST else 1.0
    air = (high - low) * 0.04 if high - low > FLAT * size else 0.5 * size
    if low >= 0 and high <= 1:
        return max(low - air, 0.0), min(high + air, 1.0)
    return low - air, high + air


def _label_width(curves: CurveSet, names: Mapping[str, str]) -> int:
    longest = max((len(names.get(node, node[-8:])) for node in curves.nodes), default=4)
    return 2 + 6 + 1 + min(max(longest, 4), NAME_WIDTH_MAX)


def _draw_axes(canvas: Canvas, scale: Scale, ticks: list[float], left: int, plot_width: int, plot_height: int) -> None:
    for row in range(plot_height):
        canvas.write(left, row, "│", AXIS_STYLE)
    for tick in ticks:
        row = scale.y(tick) // 4
        canvas.write(0, row, tick_text(tick, ticks).rjust(left - 1), AXIS_STYLE)
        canvas.write(left, row, "┤", AXIS_STYLE)
    canvas.write(left, plot_height, "└" + "─" * plot_width, AXIS_STYLE)


def _draw_places(
    canvas: Canvas, axis: str, scale: Scale, left: int, plot_width: int, plot_height: int, told: tuple[int, str]
) -> None:
    """What is written below the axis: what is `told` of the cursor, from its column on, and what fits beside it."""
    free_from = 0
    taken_from, taken_to = told[0], told[0] + cell_len(told[1])

    def is_free(start: int, end: int) -> bool:
        return end <= taken_from or start >= taken_to

    for tick in place_ticks(axis, scale.x_low, scale.x_high, max(plot_width // TICK_COLUMNS, 2)):
        column, label = left + 1 + scale.x(tick) // 2, place_text(axis, tick)
        start = min(column - len(label) // 2, canvas.width - len(label))
        canvas.write(column, plot_height, "┬", AXIS_STYLE)
        if start >= free_from and is_free(start, start + len(label)):
            canvas.write(start, plot_height + 1, label, AXIS_STYLE)
            free_from = start + len(label) + 1
    start = max(free_from, left + plot_width - 4)
    if free_from + len(axis) <= canvas.width and is_free(start, start + len(axis)):
        canvas.write(start, plot_height + 1, axis, AXIS_STYLE)
    canvas.write(taken_from, plot_height + 1, told[1], CURSOR_STYLE)


def _draw_marks(canvas: Canvas, marks: Sequence[Mark], scale: Scale, left: int, plot_height: int) -> None:
    """A dotted line down to each sign, behind the curves."""
    for mark in marks:
        if scale.x_low <= mark.place <= scale.x_high:
            x = left * 2 + scale.x(mark.place)
            canvas.line(x, 0, x, plot_height * 4 - 1, AXIS_STYLE, 0, MARK_DOTS)


def _write_signs(canvas: Canvas, marks: Sequence[Mark], scale: Scale, left: int, plot_height: int) -> None:
    taken: set[int] = set()
    for mark in marks:
        column = left + scale.x(mark.place) // 2
        if scale.x_low <= mark.place <= scale.x_high and column not in taken:
            taken.add(column)
            canvas.write(column, plot_height, mark.sign, mark.style)


def _draw_cursor(canvas: Canvas, cursor: float, scale: Scale, left: int, plot_height: int) -> None:
    """The line under which values are read."""
    x = left * 2 + scale.x(cursor)
    canvas.line(x, 0, x, plot_height * 4 - 1, CURSOR_STYLE, RANK_CURSOR)
    canvas.write(x // 2, plot_height, "▲", CURSOR_STYLE)


def _cursor_words(
    cursor: float, axis: str, marks: Sequence[Mark], scale: Scale, left: int, width: int
) -> tuple[int, str]:
    """Where the cursor stands and what befell the run there, and the column where this is written."""
    text = f"{axis} {place_text(axis, cursor)}"
    near = nearest(cursor, [mark.place for mark in marks])
    if near is not None and abs(scale.x(near) - scale.x(cursor)) <= MARK_NEAR_DOTS:
        text += "".join(f"  {mark.sign} {mark.words}" for mark in marks if mark.place == near)
    text = shortened(f" {text} ", width)
    return max(min((left * 2 + scale.x(cursor)) // 2 - len(axis) - 1, width - cell_len(text)), 0), text


def _ends_at(cursor: float, curves: CurveSet, names: Mapping[str, str], scale: Scale, highlight: str) -> list[End]:
    """The mean's value under the cursor, and each node's: the last that was measured until there."""
    ends = []
    if known := _value_at(curves.mean, cursor):
        ends.append(End(_row(scale, known[1]), "mean", known[1], MEAN_STYLE))
    for index, (node, points) in enumerate(curves.nodes.items()):
        if known := _value_at(points, cursor):
            style = HIGHLIGHT_STYLE if node == highlight else f"series-{index % SERIES_STYLES}"
            ends.append(End(_row(scale, known[1]), names.get(node, node[-8:]), known[1], style))
    return ends


def _value_at(points: Points, place: float) -> tuple[float, float] | None:
    index = bisect_right(points, place, key=_place)
    return points[index - 1] if index else None


def _row(scale: Scale, value: float) -> int:
    return min(max(scale.y(value), 0), scale.dots_down - 1) // 4


def _draw_curves(
    canvas: Canvas, curves: CurveSet, names: Mapping[str, str], scale: Scale, left: int, highlight: str
) -> list[End]:
    ends = []
    for index, (node, points) in enumerate(curves.nodes.items()):
        chosen = node == highlight
        if not points:
            continue
        style = HIGHLIGHT_STYLE if chosen else f"series-{index % SERIES_STYLES}"
        y = _draw_line(canvas, points, scale, left, style, RANK_HIGHLIGHT if chosen else RANK_NODE, thick=chosen)
        ends.append(End(y // 4, names.get(node, node[-8:]), points[-1][1], style))
    if not curves.mean:
        return ends
    y = _draw_line(canvas, curves.mean, scale, left, MEAN_STYLE, RANK_MEAN, thick=True)
    return [End(y // 4, "mean", curves.mean[-1][1], MEAN_STYLE), *ends]


def _draw_line(canvas: Canvas, points: Points, scale: Scale, left: int, style: str, rank: int, *, thick: bool) -> int:
    """Join the points by a line, two dots thick or one; returns the row of dots where it ends."""
    dots = thinned(points, scale)
    lines = (0, 1 if dots[-1][1] < scale.dots_down - 1 else -1) if thick or len(dots) == 1 else (0,)
    for shift in lines:
        x0, y0 = dots[0]
        for x, y in dots[1:] or dots:
            canvas.line(left * 2 + x0, y0 + shift, left * 2 + x, y + shift, style, rank)
            x0, y0 = x, y
    return dots[-1][1]


def _draw_labels(canvas: Canvas, ends: list[End], left: int, width: int, rows: int) -> None:
    for row, end in spread(chosen_ends(ends, rows), rows):
        stroke = "━" if end.style in (MEAN_STYLE, HIGHLIGHT_STYLE) else "─"
        label = f"{stroke} {value_text(end.value):>6} {shortened(end.name, width - 9)}"
        canvas.write(left, row, label, end.style)


def chosen_ends(ends: list[End], rows: int) -> list[End]:
    """The ends to name when there is room for `rows`: the mean, the highlighted node, then the outermost."""
    if len(ends) <= rows:
        return ends
    first = [end for end in ends if end.style in (MEAN_STYLE, HIGHLIGHT_STYLE)]
    rest = sorted((end for end in ends if end not in first), key=lambda end: end.value)
    room = max(rows // 2 - len(first), 0)  # half of the rows stay free, so that names stand near their curves
    return first + rest[: room // 2] + rest[len(rest) - (room - room // 2) :]


def spread(ends: list[End], rows: int) -> list[tuple[int, End]]:
    """Rows for the names, in the curves' order and as near their ends as goes without two in one row."""
    ordered = sorted(ends, key=lambda end: (end.row, -end.value))[:rows]
    taken = []
    row = -1
    for end in ordered:
        row = max(end.row, row + 1)
        taken.append(row)
    limit = rows - 1
    for index in range(len(taken) - 1, -1, -1):
        taken[index] = min(taken[index], limit)
        limit = taken[index] - 1
    return list(zip(taken, ordered, strict=True))
