"""A widget that shows a drawing, and paints only the lines of it that changed."""

from collections.abc import Callable
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.drawing.picture import Line, Picture
from tui.widgets.look import look_of

Draw = Callable[[int, int], Picture]
BLANK = Picture(0, 0, ())


def strip_of(line: Line, width: int, look: Any, base: Style) -> Strip:
    """A drawn line as Textual wants it, `width` cells wide."""
    segments = [Segment(span.text, base + look[span.style]) for span in line]
    return Strip(segments).adjust_cell_length(width, base)


class Panel(Widget):
    """A widget with a border and words in it, which are never taken for markup: runs have names that peers chose."""

    words: tuple[str, str] = ("", "")

    def set_words(self, title: str, subtitle: str = "") -> None:
        """Put words into the border. Setting a border's text paints the whole widget, so only if it is another."""
        if title != self.words[0]:
            self.border_title = Content(title)
        if subtitle != self.words[1]:
            self.border_subtitle = Content(subtitle)
        self.words = (title, subtitle)


class PictureView(Panel):
    """Shows what `show` was last given, drawn anew at every size."""

    def __init__(self, *, id: str, title: str = "", classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self.set_words(title)
        self._draw: Draw | None = None
        self._picture = BLANK

    def show(self, draw: Draw) -> None:
        """Draw with `draw(width, height)` from now on, and paint what differs from before."""
        self._draw = draw
        self._redraw()

    def on_resize(self, _event: Resize) -> None:
        self._redraw()

    def _redraw(self) -> None:
        width, height = self.content_size
        if self._draw is None or not width or not height:
            return
        before, self._picture = self._picture, self._draw(width, height)
        if (before.width, before.height) != (width, height):
            self.refresh()
            return
        changed = [y for y, line in enumerate(self._picture.lines) if line != before.lines[y]]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        if y >= len(self._picture.lines):
            return Strip.blank(width, self.rich_style)
        return strip_of(self._picture.lines[y], width, look_of(self.app), self.rich_style)
