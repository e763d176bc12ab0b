"""Curves as they are drawn everywhere: series, scales, ticks, and a drawing made of strokes, boxes and labels.

A `Drawing` knows neither SVG nor pixels (plots_svg, plots_png); styles are names. A curve is told from its neighbours
by its dashes and by its name at its end, so that colours are never needed.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SERIES_STYLES = 8  # how many colours there are for series
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 3), (8, 3, 2, 3), (12, 4), (4, 2, 1, 2, 1, 2))
CHARACTER_WIDTH = 6.0  # of a label's letters, in a drawing's units
LINE_HEIGHT = 14.0
NAME_CELLS_MAX = 24
TICK_EVERY_X, TICK_EVERY_Y = 75.0, 42.0  # about one label in so many units
FLAT = 1e-9  # curves whose values differ by less than this part of them are flat, and still need a range
VALUE_MIN, VALUE_MAX = 1e-100, 1e100  # beyond what 32-bit training can give; keeps the arithmetic finite

_UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86_400.0, "d"))
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, and what turns the writing around
FAINT = 0.45  # how much of a curve shows that fades
FAINT_FROM = 8  # curves beside a strong one fade when there are so many

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A curve. A strong one is drawn thick and named first, such as the mean over the nodes."""

    name: str
    points: Sequence[Point]
    strong: bool = False
    place: int = 0  # among its kind: decides colour and dashes

    @property
    def style(self) -> str:
        return "mean" if self.strong and self.place == 0 else f"series-{self.place % SERIES_STYLES}"

    @property
    def dashes(self) -> tuple[float, ...]:
        return DASHES[self.place % len(DASHES)]


@dataclass(frozen=True, slots=True)
class Stroke:
    points: Sequence[Point]
    style: str
    width: float = 1.0
    dashes: tuple[float, ...] = ()
    faint: bool = False
    title: str = ""  # what it is, for who points at it


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    style: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    x: float
    y: float  # of the line that its letters stand on
    text: str
    style: str = "quiet"
    anchor: str = "start"  # or "middle" or "end"


@dataclass(slots=True)
class Drawing:
    """What is drawn, from the back to the front. Units are CSS pixels, from the upper left."""

    width: float
    height: float
    title: str
    shapes: list[Stroke | Box | Label] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` onto places from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def value_range(series: Iterable[Series]) -> tuple[float, float]:
    """The lowest and highest value with a little air, but none beyond 0 and 1 for what stays inside them."""
    values = [value for one in series for _, value in one.points] or [0.0]
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if size < VALUE_MIN:
        return -0.5, 0.5
    air = (high - low) * 0.04 if high - low > FLAT * size else 0.5 * size
    if low >= 0 and high <= 1:
        return max(low - air, 0.0), min(high + air, 1.0)
    return low - air, high + air


def place_range(series: Iterable[Series]) -> tuple[float, float]:
    places = [place for one in series for place, _ in one.points] or [0.0]
    low, high = min(places), max(places)
    return low, high if high - low > FLAT * max(abs(low), abs(high)) else low + 1.0


def ticks(low: float, high: float, count: float, *, whole: bool = False) -> list[float]:
    """About `count` round numbers, 1, 2 or 5 times a power of ten apart; only whole ones where `whole`."""
    raw = (high - low) / max(count, 2)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    marks: list[float] = []
    for part in (10, 5, 2, 1, 0.5, 0.2, 0.1):
        step = max(part * magnitude, 1.0 if whole else 0.0)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if step >= raw * 0.999 or len(marks) < 2:
            marks = [index * step for index in range(first, last + 1)]
    return marks


def tick_text(tick: float, all_ticks: Sequence[float]) -> str:
    """A tick's label with as many decimals as tell it from its neighbours."""
    step = all_ticks[1] - all_ticks[0] if len(all_ticks) > 1 else abs(all_ticks[0]) or 1.0
    if max(abs(all_ticks[0]), abs(all_ticks[-1])) >= 1e6 or step < 1e-5:
        return f"{tick:.1e}"
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def thinned(points: Iterable[Point]) -> list[Point]:
    """Where many points share one unit of width, its first, lowest, highest and last alone: it looks the same."""
    kept: list[Point] = []
    group: list[Point] = []
    for point in points:
        if group and int(point[0]) != int(group[0][0]):
            kept += _extremes(group)
            group = []
        group.append(point)
    return kept + _extremes(group)


def _extremes(group: list[Point]) -> list[Point]:
    if len(group) < 4:
        return group
    middle = range(1, len(group) - 1)
    outer = {min(middle, key=lambda at: group[at][1]), max(middle, key=lambda at: group[at][1])}
    return [group[at] for at in (0, *sorted(outer), len(group) - 1)]


def time_unit(seconds: float) -> tuple[float, str]:
    """The largest unit of which a length of time takes three or more: its seconds and its name."""
    return max((unit for unit in _UNITS if unit[0] * 3 <= seconds), default=_UNITS[0])


def plain(text: object) -> str:
    """What other people wrote, in one line, without what a terminal, a page or XML obeys or cannot hold."""
    words = " ".join(str(text).split())
    return "".join("\ufffd" if unicodedata.category(char) in _UNSHOWN else char for char in words)


def cells(text: str) -> int:
    """How many letters' room a text takes: East Asian letters take two, accents of their own none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def shortened(text: str, width: int = NAME_CELLS_MAX) -> str:
    """`text` in at most `width` cells."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…"


def figure(value: float) -> str:
    return f"{value:.4g}"


def chart(
    series: Sequence[Series],
    *,
    title: str,
    x_name: str,
    width: float = 720.0,
    height: float = 320.0,
    whole: bool = True,
) -> Drawing:
    """The curves with axes, and their names where they end. `whole`: x counts something, so its ticks are whole."""
    drawing = Drawing(width, height, title)
    series = [one for one in series if one.points]
    drawing.shapes.append(Label(8, 16, title, "ink"))
    if not series:
        drawing.shapes.append(Label(width / 2, height / 2, "nothing measured yet", "quiet", "middle"))
        return drawing
    low, high = value_range(series)
    marks = ticks(low, high, height / TICK_EVERY_Y)
    left = 16 + CHARACTER_WIDTH * max(len(tick_text(mark, marks)) for mark in marks)
    names = max(cells(_end_text(one)) for one in series)
    right = min(16 + CHARACTER_WIDTH * names, width / 3)
    x = Scale(*place_range(series), left, width - right)
    y = Scale(low, high, height - 34, 28)
    _axes(drawing, x, y, marks, x_name, whole)
    faint = len(series) > FAINT_FROM and any(one.strong for one in series)
    for one in sorted(series, key=lambda each: each.strong):
        _curve(drawing, one, x, y, faint=faint and not one.strong)
    _ends(drawing, series, x, y)
    return drawing


def _axes(drawing: Drawing, x: Scale, y: Scale, marks: Sequence[float], x_name: str, whole: bool) -> None:
    for mark in marks:
        drawing.shapes.append(Stroke(((x.first, y(mark)), (x.last, y(mark))), "grid"))
        drawing.shapes.append(Label(x.first - 6, y(mark) + 4, tick_text(mark, marks), "quiet", "end"))
    drawing.shapes.append(Stroke(((x.first, y.first), (x.last, y.first)), "axis"))
    below = ticks(x.low, x.high, (x.last - x.first) / TICK_EVERY_X, whole=whole)
    for mark in below:
        drawing.shapes.append(Stroke(((x(mark), y.first), (x(mark), y.first + 4)), "axis"))
        drawing.shapes.append(Label(x(mark), y.first + 16, tick_text(mark, below), "quiet", "middle"))
    drawing.shapes.append(Label((x.first + x.last) / 2, y.first + 30, x_name, "quiet", "middle"))


def _curve(drawing: Drawing, one: Series, x: Scale, y: Scale, *, faint: bool) -> None:
    points = thinned((x(place), y(value)) for place, value in one.points)
    if len(points) == 1:
        (at, value), half = points[0], 3
        drawing.shapes.append(Box(at - half, value - half, 2 * half, 2 * half, one.style, one.name))
        return
    drawing.shapes.append(Stroke(points, one.style, 2.4 if one.strong else 1.2, one.dashes, faint, one.name))


def _end_text(one: Series) -> str:
    return f"{shortened(one.name)} {figure(one.points[-1][1])}"


def _ends(drawing: Drawing, series: Sequence[Series], x: Scale, y: Scale) -> None:
    """Names at the right edge, as near their curves' ends as goes without one on another."""
    rows = max(int((y.first - y.last) / LINE_HEIGHT), 1)
    named = sorted(chosen(series, rows), key=lambda one: -one.points[-1][1])
    heights = spread([y(one.points[-1][1]) for one in named], LINE_HEIGHT, y.last, y.first)
    for one, height in zip(named, heights, strict=True):
        end = x(one.points[-1][0]), y(one.points[-1][1])
        drawing.shapes.append(Stroke((end, (x.last + 6, height)), "grid"))
        style = "ink" if one.strong else one.style
        drawing.shapes.append(Label(x.last + 8, height + 4, _end_text(one), style))


def chosen(series: Sequence[Series], rows: int) -> list[Series]:
    """The series to name when there is room for `rows`: the strong ones, then those that end outermost."""
    if len(series) <= rows:
        return list(series)
    first = [one for one in series if one.strong][:rows]
    rest = sorted((one for one in series if not one.strong), key=lambda one: one.points[-1][1])
    room = max(rows // 2 - len(first), 0)  # half of the rows stay free, so that names stand near their curves
    return first + rest[: room // 2] + rest[len(rest) - (room - room // 2) :]


def spread(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Places in order, downwards, at least `gap` apart where there is room, near the wanted ones."""
    taken: list[float] = []
    for place in wanted:
        taken.append(max(place, taken[-1] + gap if taken else top))
    limit = bottom
    for index in range(len(taken) - 1, -1, -1):
        taken[index] = min(taken[index], limit)
        limit = taken[index] - gap
    return taken
