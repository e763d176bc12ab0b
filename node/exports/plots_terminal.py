"""Curves drawn in a terminal with Braille dots, two by four to a cell.

Every curve has a letter, which stands on it and before its name, and dashes of its own; colours only help.
"""

from collections.abc import Sequence
from typing import NamedTuple

import click

from node.exports.plots import (
    Scale,
    Series,
    cells,
    chosen,
    figure,
    place_range,
    shortened,
    spread,
    thinned,
    tick_text,
    ticks,
    value_range,
)

BRAILLE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # the bit of a dot by (column, row) inside its cell
_DASHES = ((1, 0), (5, 3), (1, 2), (9, 3), (2, 4), (5, 1))  # dots drawn, dots left out
_CROWD_DASHES = (1, 4)  # so that a strong curve stands out of many others without colours
CROWD = 16  # curves
_COLOURS = ("blue", "green", "magenta", "cyan", "red", "bright_blue", "yellow", "bright_green")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WIDTH_MIN, NAMES_FROM_WIDTH = 24, 50  # below the latter the names go under the curves
NAME_WIDTH_MAX, FIGURE_WIDTH_MIN = 18, 6
MARK_WIDTH = 5  # of what a name's line has besides: stroke, letter and blanks
TICK_ROWS, TICK_COLUMNS = 3, 9  # about one label in so many


class _Cell(NamedTuple):
    text: str
    style: str = ""


class _Canvas:
    """Cells with dots or letters in them; what lies outside is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._dots = [[0] * width for _ in range(height)]
        self._cells: list[list[_Cell | None]] = [[None] * width for _ in range(height)]
        self._styles = [[""] * width for _ in range(height)]

    def dot(self, x: int, y: int, style: str, *, alone: bool = False) -> None:
        """Set a dot; `alone` takes those of other styles out of its cell."""
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            if alone and self._styles[y >> 2][x >> 1] != style:
                self._dots[y >> 2][x >> 1] = 0
            self._dots[y >> 2][x >> 1] |= _DOTS[x & 1][y & 3]
            self._styles[y >> 2][x >> 1] = style

    def write(self, x: int, y: int, text: str, style: str = "") -> None:
        for char in text:
            size = cells(char)
            if size and x >= 0 and x + size <= self.width and 0 <= y < self.height:
                self._cells[y][x] = _Cell(char, style)
                if size == 2:
                    self._cells[y][x + 1] = _Cell("", style)
            x += size

    def lines(self, colour: bool) -> list[str]:
        return ["".join(self._runs(y, colour)).rstrip() for y in range(self.height)]

    def _runs(self, y: int, colour: bool) -> list[str]:
        runs: list[tuple[str, str]] = []
        for x in range(self.width):
            bits = self._dots[y][x]
            cell = self._cells[y][x] or (_Cell(chr(BRAILLE + bits), self._styles[y][x]) if bits else _Cell(" "))
            if runs and runs[-1][1] == cell.style:
                runs[-1] = (runs[-1][0] + cell.text, cell.style)
            else:
                runs.append((cell.text, cell.style))
        return [_painted(text, style) if colour else text for text, style in runs]


def _painted(text: str, style: str) -> str:
    if style == "mean":
        return click.style(text, bold=True)
    if style == "axis":
        return click.style(text, dim=True)
    return click.style(text, fg=style) if style else text


def draw(
    series: Sequence[Series], *, title: str, x_name: str, width: int, height: int, colour: bool, whole: bool = True
) -> list[str]:
    """The lines of a chart, each at most `width` cells. Names must be free of what a terminal obeys."""
    series = [one for one in series if one.points]
    width, height = max(width, WIDTH_MIN), max(height, 6)
    if not series:
        return [title, "  nothing measured yet"]
    low, high = value_range(series)
    marks = ticks(low, high, height / TICK_ROWS)
    left = max(len(tick_text(mark, marks)) for mark in marks) + 1
    names = _names_width(series) if width >= NAMES_FROM_WIDTH else 0
    across, down = width - left - 1 - names, height - 2
    x = Scale(*place_range(series), 0, across * 2 - 1)
    y = Scale(low, high, down * 4 - 1, 0)
    canvas = _Canvas(width, height)
    _axes(canvas, x, y, marks, left, x_name, whole)
    shown = chosen(series, min(down, len(LETTERS)) if names else len(LETTERS))
    letters = {id(one): letter for one, letter in zip(shown, LETTERS, strict=False)}
    for one in sorted(series, key=lambda each: each.strong):
        crowd = len(series) > CROWD and not one.strong
        _line(canvas, one, x, y, left + 1, _CROWD_DASHES if crowd else _DASHES[one.place % len(_DASHES)])
    for one in shown:
        _letters(canvas, one, letters[id(one)], x, y, left + 1, len(series))
    if names:
        _names(canvas, shown, letters, y, left + 1 + across, names, down)
    below = [] if names else [f" {letters[id(one)]} {figure(one.points[-1][1])} {one.name}" for one in shown]
    hidden = len(series) - len(shown)
    note = [f" {hidden} more curves are drawn without a name; --node names one"] if hidden else []
    return [shortened(title, width), *canvas.lines(colour), *(shortened(line, width) for line in [*below, *note])]


def _names_width(series: Sequence[Series]) -> int:
    return MARK_WIDTH + _figures_width(series) + min(max(cells(one.name) for one in series), NAME_WIDTH_MAX)


def _figures_width(series: Sequence[Series]) -> int:
    return max(FIGURE_WIDTH_MIN, *(len(figure(one.points[-1][1])) for one in series))


def _style(one: Series) -> str:
    return "mean" if one.style == "mean" else _COLOURS[one.place % len(_COLOURS)]


def _axes(canvas: _Canvas, x: Scale, y: Scale, marks: Sequence[float], left: int, x_name: str, whole: bool) -> None:
    across, down = (int(x.last) + 1) // 2, (int(y.first) + 1) // 4
    for row in range(down):
        canvas.write(left, row, "│", "axis")
    for mark in marks:
        row = round(y(mark)) // 4
        canvas.write(0, row, tick_text(mark, marks).rjust(left - 1), "axis")
        canvas.write(left, row, "┤", "axis")
    canvas.write(left, down, "└" + "─" * across, "axis")
    below = ticks(x.low, x.high, max(across // TICK_COLUMNS, 2), whole=whole)
    free_from = 0
    for mark in below:
        column, label = left + 1 + round(x(mark)) // 2, tick_text(mark, below)
        start = min(max(column - len(label) // 2, 0), canvas.width - len(label))
        canvas.write(column, down, "┬", "axis")
        if start >= free_from:
            canvas.write(start, down + 1, label, "axis")
            free_from = start + len(label) + 1
    if free_from + len(x_name) <= canvas.width:
        canvas.write(max(free_from, left + 1 + across - len(x_name)), down + 1, x_name, "axis")


def _line(canvas: _Canvas, one: Series, x: Scale, y: Scale, left: int, dashes: tuple[int, int]) -> None:
    """Join the points, a dot a step (DDA), but for the gaps; a strong line is two dots thick."""
    drawn, gap = dashes
    at = one.place  # so that the gaps of many curves do not fall into columns
    dots = [(round(px), round(py)) for px, py in thinned((x(place), y(value)) for place, value in one.points)]
    for (x0, y0), (x1, y1) in zip(dots, dots[1:] or dots, strict=False):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps):
            at += 1
            if at % (drawn + gap) < drawn or len(dots) == 1:
                px, py = round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)
                canvas.dot(left * 2 + px, py, _style(one), alone=one.strong)
                if one.strong:
                    canvas.dot(left * 2 + px, py + (1 if py < y.first else -1), _style(one), alone=True)


def _letters(canvas: _Canvas, one: Series, letter: str, x: Scale, y: Scale, left: int, count: int) -> None:
    """The letter on its curve, at other places than its neighbours' letters."""
    points = one.points
    steps = {int(len(points) * (part + (one.place % count) / count / 3)) for part in (0.15, 0.5, 0.85)}
    for index in sorted(steps):
        place, value = points[min(index, len(points) - 1)]
        canvas.write(left + round(x(place)) // 2, round(y(value)) // 4, letter, _style(one))


def _names(
    canvas: _Canvas, shown: Sequence[Series], letters: dict[int, str], y: Scale, left: int, width: int, rows: int
) -> None:
    ordered = sorted(shown, key=lambda one: -one.points[-1][1])
    wanted = [round(y(one.points[-1][1])) // 4 for one in ordered]
    figures = _figures_width(shown)
    for one, row in zip(ordered, spread(wanted, 1, 0, rows - 1), strict=True):
        stroke = "━" if one.strong else "─"
        name = shortened(one.name, width - MARK_WIDTH - figures)
        value = figure(one.points[-1][1]).rjust(figures)
        canvas.write(left, int(row), f"{stroke}{letters[id(one)]} {value} {name}", _style(one))


def beside(left: Sequence[str], right: Sequence[str], width: int) -> list[str]:
    """Two blocks of lines next to each other, the right one from column `width`."""
    rows = max(len(left), len(right))
    padded = [*left, *[""] * (rows - len(left))], [*right, *[""] * (rows - len(right))]
    return [f"{a}{' ' * max(width - cells(click.unstyle(a)), 1)}{b}".rstrip() for a, b in zip(*padded, strict=True)]
