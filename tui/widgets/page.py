"""A page of text in a panel: lines that fit its width, scrolled by keys where there are too many for its height."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from tui.drawing.picture import Line
from tui.widgets.look import look_of
from tui.widgets.picture_view import Panel

Write = Callable[[int], Sequence[Line]]  # the page's lines at so many columns


class Page(VerticalScroll, Panel, can_focus=True):
    """Shows what `show` was last given, written anew at every width. A page about something else begins at its top."""

    DEFAULT_CSS = """
    Page {
        border: round $foreground 25%; border-title-color: $foreground 70%; border-title-style: bold;
        border-subtitle-color: $foreground 45%; padding: 0 1; scrollbar-size-vertical: 1; background: $background;
    }
    Page:focus { border: heavy $accent; border-title-color: $accent; }
    Page Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "down", show=False),
        Binding("k", "scroll_up", "up", show=False),
        Binding("g", "scroll_home", "top", show=False),
        Binding("G", "scroll_end", "end", show=False),
        Binding("ctrl+d", "page_down", "page down", show=False),
        Binding("ctrl+u", "page_up", "page up", show=False),
    ]

    def __init__(self, *, id: str, title: str = "") -> None:
        super().__init__(id=id)
        self.set_words(title)
        self._write: Write | None = None
        self._about = ""
        self._shown: tuple[str, Sequence[Line]] = ("", ())

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, write: Write, about: str) -> None:
        """Show `write(columns)` from now on. `about` names what the page is about."""
        self._write = write
        if about != self._about:
            self._about = about
            self.scroll_home(animate=False)
        self._rewrite()

    def on_mount(self) -> None:
        # A scroll bar that comes takes a column without any resizing; lines made for one more would be broken again.
        self.watch(self, "show_vertical_scrollbar", self._rewrite_soon, init=False)

    def _rewrite_soon(self) -> None:
        self.call_after_refresh(self._rewrite)

    def on_resize(self, _event: Resize) -> None:
        self._rewrite()

    def _rewrite(self) -> None:
        width = self.scrollable_content_region.width
        if self._write is None or not width:
            return
        lines = self._write(width)
        if (self.app.theme, lines) == self._shown:
            return
        self._shown = (self.app.theme, lines)
        look = look_of(self.app)
        rows = [Text.assemble(*((span.text, look[span.style]) for span in line)) for line in lines]
        self.query_one(Static).update(Text("\n").join(rows))
