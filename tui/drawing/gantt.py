"""Draws what nodes were busy with, and when: a line for each node, a sign for each kind of work. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tui.drawing.axes import place_text, place_ticks
from tui.drawing.picture import Canvas, Picture
from tui.drawing.words import shortened
from tui.facts.spans import Span

SIGNS = {
    "train": ("█", "good"),
    "evaluate": ("◆", "self"),
    "encode": ("▒", "accent"),
    "upload": ("↑", "update"),
    "fetch": ("↓", "checkpoint"),
    "aggregate": ("Σ", "crown"),
    "wait": ("·", "dim"),
}
OTHER = ("▪", "series-5")  # a task's own
WAIT_WEIGHT = 0.2  # work that takes but a part of what one sign stands for is told rather than the waiting beside it
NAME_WIDTH_MAX = 16
TICK_COLUMNS = 12
BESIDE_LANES = 3  # rows: which rounds above, the axis and its legend below


class Lane(NamedTuple):
    """A node's line."""

    node_id: str
    name: str
    style: str = ""


def draw_gantt(
    spans: Sequence[Span], lanes: Sequence[Lane], commits: Mapping[int, float], width: int, height: int, first: int = 0
) -> Picture:
    """The spans in `width` × `height` cells, the lanes from the `first` on. `commits`: when rounds were committed, in
    seconds since 1970."""
    canvas = Canvas(width, height)
    rows = height - BESIDE_LANES
    if not spans or rows < 1 or width < 24:
        _hint(canvas, "too small for this" if spans else "nothing is told of these rounds yet")
        return canvas.picture()
    left = min(max(len(lane.name) for lane in lanes) if lanes else 0, NAME_WIDTH_MAX) + 2
    began, ended = min(span.began for span in spans), max(span.ended for span in spans)
    ended = max(ended, began + 1e-3)
    columns = width - left
    scale = columns / (ended - began)
    _draw_rounds(canvas, spans, left, began, scale)
    ends = {int((at - began) * scale) for at in commits.values() if began < at < ended}
    shown = lanes[first : first + rows]
    more = len(lanes) - first - len(shown)
    if more > 0:
        shown = shown[:-1]
    for row, lane in enumerate(shown, 1):
        canvas.write(0, row, shortened(lane.name, left - 2), lane.style)
        mine = [span for span in spans if span.node_id == lane.node_id]
        for column, name in enumerate(_busiest(mine, began, 1 / scale, columns)):
            if column in ends and name in ("", "wait"):
                canvas.write(left + column, row, "┊", "axis")
            elif name:
                canvas.write(left + column, row, *SIGNS.get(name, OTHER))
    if more > 0:
        canvas.write(0, len(shown) + 1, f"and {more + 1} more below", "dim")
    _draw_time(canvas, left, height - 2, ended - began, scale)
    _draw_legend(canvas, spans, height - 1)
    return canvas.picture()


def _busiest(spans: Sequence[Span], began: float, cell_s: float, columns: int) -> list[str]:
    """What a node was most busy with in each cell's time, or nothing."""
    shares: list[dict[str, float]] = [{} for _ in range(columns)]
    for span in spans:
        weight = WAIT_WEIGHT if span.name == "wait" else 1.0
        start, end = (span.began - began) / cell_s, (span.ended - began) / cell_s
        for column in range(max(int(start), 0), min(int(end), columns - 1) + 1):
            covered = max(min(end, column + 1) - max(start, column), 1e-6)  # what took no time was done all the same
            shares[column][span.name] = shares[column].get(span.name, 0.0) + covered * weight
    return [max(each, key=lambda name: each[name]) if each else "" for each in shares]


def _draw_rounds(canvas: Canvas, spans: Sequence[Span], left: int, began: float, scale: float) -> None:
    """Above the lanes the numbers of rounds, each where its first span begins."""
    starts: dict[int, float] = {}
    for span in spans:
        starts[span.round] = min(starts.get(span.round, span.began), span.began)
    free = left
    for number, at in sorted(starts.items()):
        column, label = max(left + int((at - began) * scale), free), f"round {number}"
        if column + len(label) > canvas.width:
            label = str(number)
        if column + len(label) <= canvas.width:
            canvas.write(column, 0, label, "heading")
            free = column + len(label) + 1


def _draw_time(canvas: Canvas, left: int, row: int, seconds: float, scale: float) -> None:
    canvas.write(left, row, "─" * (canvas.width - left), "axis")
    free = left
    for tick in place_ticks("time", 0.0, seconds, max((canvas.width - left) // TICK_COLUMNS, 2)):
        column = left + int(tick * scale)
        label = f"┴{place_text('time', tick)}"
        if free <= column <= canvas.width - len(label):
            canvas.write(column, row, label, "axis")
            free = column + len(label) + 1


def _draw_legend(canvas: Canvas, spans: Sequence[Span], row: int) -> None:
    """Of the kinds of work that are there, what their signs mean."""
    there = {span.name for span in spans}
    column = 0
    known = [name for name in SIGNS if name in there]
    for name in [*known, *(["its own"] if there - SIGNS.keys() else [])]:
        sign, style = SIGNS.get(name, OTHER)
        if column + len(name) + 2 > canvas.width:
            canvas.write(canvas.width - 1, row, "…", "dim")
            break
        canvas.write(column, row, sign, style)
        canvas.write(column + 2, row, name, "dim")
        column += len(name) + 4


def _hint(canvas: Canvas, text: str) -> None:
    canvas.write(max((canvas.width - len(text)) // 2, 0), canvas.height // 2, text, "dim")
