"""Draws one run's curves: a thin line for each node, a strong one for their mean, round by round.

Lines are named where they end, at the right edge, so that they can be told apart without colours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tui.drawing.picture import Canvas, Picture
from tui.drawing.words import shortened, value_text
from tui.facts.curves import CurveSet, Points

SERIES_STYLES = 8  # how many different colours tui.widgets.look has for nodes
MEAN_STYLE, HIGHLIGHT_STYLE, AXIS_STYLE, HINT_STYLE = "mean", "highlight", "axis", "dim"
RANK_NODE, RANK_MEAN, RANK_HIGHLIGHT = 1, 2, 3
LABELS_FROM_WIDTH = 40  # below it the names would leave too little room for the curves
NAME_WIDTH_MAX = 14
TICK_ROWS = 3  # one y label in so many rows, about
TICK_COLUMNS = 8  # one x label in so many columns, about
FLAT = 1e-9  # curves whose values differ by less than this part of them are flat, and still need a range


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
    curves: CurveSet | None, names: Mapping[str, str], width: int, height: int, highlight: str = ""
) -> Picture:
    """The curves in `width` × `height` cells. `names` gives nodes their names; `highlight` is a node to bring out."""
    if curves is None or curves.empty:
        return draw_hint("no metrics yet", "curves begin with the first round", width, height)
    low, high = _value_range(curves)
    ticks = nice_ticks(low, high, max(height // TICK_ROWS, 3))
    left = max(len(tick_text(tick, ticks)) for tick in ticks) + 1
    labels = _label_width(curves, names) if width >= LABELS_FROM_WIDTH else 0
    plot_width, plot_height = width - left - 1 - labels, height - 2
    if plot_width < 4 or plot_height < 2:
        return draw_hint("too small for curves", "", width, height)
    x_low, x_high = _round_range(curves)
    scale = Scale(x_low, x_high, low, high, plot_width * 2, plot_height * 4)
    canvas = Canvas(width, height)
    _draw_axes(canvas, scale, ticks, left, plot_width, plot_height)
    ends = _draw_curves(canvas, curves, names, scale, left + 1, highlight)
    if labels:
        _draw_labels(canvas, ends, left + 1 + plot_width, labels, plot_height)
    return canvas.picture()


def draw_hint(first: str, second: str, width: int, height: int) -> Picture:
    """Two lines of text in the middle of nothing."""
    canvas = Canvas(width, height)
    for offset, line in enumerate((first, second)):
        canvas.write(max((width - len(line)) // 2, 0), max(height // 2 - 1, 0) + offset, line, HINT_STYLE)
    return canvas.picture()


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`; two at least."""
    raw = (high - low) / max(count, 2)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for step in (10 * magnitude, 5 * magnitude, 2 * magnitude, magnitude, magnitude / 2):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if step < raw * 1.6 and last > first:
            break
    return [index * step for index in range(first, last + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """A tick's label with as many decimals as tell it from its neighbours."""
    step = ticks[1] - ticks[0]
    if max(abs(ticks[0]), abs(ticks[-1])) >= 1e5 or step < 1e-5:
        return f"{tick:.1e}"
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


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
    values = [value for points in (*curves.nodes.values(), curves.mean) for _, value in points]
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    air = (high - low) * 0.04 if high - low > FLAT * size else 0.5 * (size or 1.0)
    if low >= 0 and high <= 1:
        return max(low - air, 0.0), min(high + air, 1.0)
    return low - air, high + air


def _round_range(curves: CurveSet) -> tuple[float, float]:
    rounds = [points[end][0] for points in (*curves.nodes.values(), curves.mean) for end in (0, -1)]
    return min(rounds), max(*rounds, min(rounds) + 1)


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
    free_from = 0
    for tick in nice_ticks(scale.x_low, scale.x_high, max(plot_width // TICK_COLUMNS, 2)):
        if tick != int(tick) or not scale.x_low <= tick <= scale.x_high:
            continue
        column, label = left + 1 + scale.x(tick) // 2, str(int(tick))
        start = min(column - len(label) // 2, canvas.width - len(label))
        canvas.write(column, plot_height, "┬", AXIS_STYLE)
        if start >= free_from:
            canvas.write(start, plot_height + 1, label, AXIS_STYLE)
            free_from = start + len(label) + 1
    if free_from + len("round") <= canvas.width:
        canvas.write(max(free_from, left + plot_width - 4), plot_height + 1, "round", AXIS_STYLE)


def _draw_curves(
    canvas: Canvas, curves: CurveSet, names: Mapping[str, str], scale: Scale, left: int, highlight: str
) -> list[End]:
    ends = []
    for index, (node, points) in enumerate(curves.nodes.items()):
        chosen = node == highlight
        style = HIGHLIGHT_STYLE if chosen else f"series-{index % SERIES_STYLES}"
        y = _draw_line(canvas, points, scale, left, style, RANK_HIGHLIGHT if chosen else RANK_NODE, thick=chosen)
        ends.append(End(y // 4, names.get(node, node[-8:]), points[-1][1], style))
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
