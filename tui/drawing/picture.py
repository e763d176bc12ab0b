"""Drawings made of characters, with no terminal in sight: a grid of cells with Braille dots under text.

A cell has one style; where lines cross, all their dots show, in the style of the most important one. Styles are names
(tui.widgets.look gives them colours), so that a drawing is the same in every theme and can be compared in a test.
"""

from typing import NamedTuple

from rich.cells import get_character_cell_size

TAIL = "\0"  # stands in the second cell of a character that is two cells wide
BRAILLE = 0x2800
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # the bit of a dot by (column, row) inside its cell


class Span(NamedTuple):
    """A piece of a line in one style."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


class Picture(NamedTuple):
    """A finished drawing: `height` lines that are each `width` cells wide."""

    width: int
    height: int
    lines: tuple[Line, ...]

    def plain(self) -> str:
        """The characters alone, for tests and for terminals that show nothing else."""
        return "\n".join("".join(span.text for span in line).rstrip() for line in self.lines)


class Canvas:
    """Where a picture is drawn. What lies outside is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self.width = max(width, 0)
        self.height = max(height, 0)
        cells = self.width * self.height
        self._dots = [0] * cells
        self._chars = [""] * cells
        self._styles = [""] * cells
        self._ranks = [-1] * cells

    def copy(self) -> "Canvas":
        """The same drawing, to go on with in another direction."""
        twin = Canvas(0, 0)
        twin.width, twin.height = self.width, self.height
        twin._dots, twin._chars = self._dots.copy(), self._chars.copy()
        twin._styles, twin._ranks = self._styles.copy(), self._ranks.copy()
        return twin

    def dot(self, x: int, y: int, style: str, rank: int = 0) -> None:
        """Set a dot; x runs to 2 × width, y to 4 × height, from the upper left. The highest rank colours its cell."""
        if not (0 <= x < self.width * 2 and 0 <= y < self.height * 4):
            return
        cell = (y >> 2) * self.width + (x >> 1)
        self._dots[cell] |= DOTS[x & 1][y & 3]
        if rank >= self._ranks[cell]:
            self._ranks[cell], self._styles[cell] = rank, style

    def line(self, x0: int, y0: int, x1: int, y1: int, style: str, rank: int = 0, every: int = 1) -> None:
        """A line between two dots, ends included; `every` 2 or more leaves gaps. DDA: one step a dot."""
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        dx, dy = (x1 - x0) / steps, (y1 - y0) / steps
        for step in range(0, steps + 1, every):
            self.dot(round(x0 + dx * step), round(y0 + dy * step), style, rank)

    def write(self, x: int, y: int, text: str, style: str = "") -> None:
        """Put text at a cell, over whatever dots are there."""
        if not 0 <= y < self.height:
            return
        column = x
        for char in text:
            size = get_character_cell_size(char)
            if size > 0 and column >= 0 and column + size <= self.width:
                cell = y * self.width + column
                self._chars[cell], self._styles[cell] = char, style
                if size > 1:
                    self._chars[cell + 1], self._styles[cell + 1] = TAIL, style
            column += size

    def picture(self) -> Picture:
        """What has been drawn."""
        return Picture(self.width, self.height, tuple(self._line(y) for y in range(self.height)))

    def _line(self, y: int) -> Line:
        spans: list[Span] = []
        start = y * self.width
        run, style = "", ""
        for cell in range(start, start + self.width):
            char = self._chars[cell] or (chr(BRAILLE + self._dots[cell]) if self._dots[cell] else " ")
            own = self._styles[cell] if char != " " else style
            if own != style and run:
                spans.append(Span(run, style))
                run = ""
            run, style = run + ("" if char == TAIL else char), own
        return (*spans, Span(run, style)) if run else tuple(spans)
