"""A table with a cursor that makes and paints only rows in sight, and of those only the ones that changed."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Blur, Click, Focus, MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.drawing.grid import Column, Fitted, ListRows, LongRows, Rows, find, fit, has, heading, line, marked
from tui.drawing.picture import Line, Span
from tui.widgets.look import look_of
from tui.widgets.messages import RowEntered, RowMoved
from tui.widgets.picture_view import Panel, strip_of

GUTTER = 2  # the cursor's mark, and that of a row which has what is sought
CURSOR_MARK = "▸"
MATCH_MARK = "•"
WHEEL_ROWS = 3


class RowTable(ScrollView, Panel, can_focus=True):
    """Shows rows under a heading that stays. The cursor keeps to its row's key when rows come and go.

    With `follow`, a cursor that stands on the last row stays on the last row, as a log wants it; and while it stands
    elsewhere, the rows around it keep their places on the screen when others come before them.

    What is `sought` is marked wherever it stands, and n and N go from one row that has it to the next.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False),
        Binding("k,up", "move(-1)", "up", show=False),
        Binding("g,home", "edge(-1)", "first", show=False),
        Binding("G,end", "edge(1)", "last", show=False),
        Binding("ctrl+d,pagedown", "page(1)", "page down", show=False),
        Binding("ctrl+u,pageup", "page(-1)", "page up", show=False),
        Binding("n", "seek(1)", "next match", show=False),
        Binding("N", "seek(-1)", "previous match", show=False),
        Binding("enter", "enter", "open", show=False),
    ]

    def __init__(
        self,
        columns: tuple[Column, ...],
        *,
        id: str,
        title: str,
        empty: str,
        follow: bool = False,
        headed: bool = True,
    ) -> None:
        super().__init__(id=id)
        self._heading_lines = int(headed)
        self.set_words(title)
        self._columns = columns
        self.empty = empty
        self._follow = follow
        self._rows: Rows = ListRows()
        self._fitted: list[Fitted] = []
        self._fitted_width = -1
        self._cursor = 0
        self._cursor_key = ""
        self._painted: dict[int, Line] = {}
        self.sought = ""

    @property
    def at_end(self) -> bool:
        """The cursor stands on the last row, or there is none."""
        return self._cursor >= len(self._rows) - 1

    @property
    def cursor_key(self) -> str:
        """The key of the row under the cursor; empty without rows."""
        return self._cursor_key

    @property
    def cursor(self) -> int:
        return self._cursor

    @property
    def in_full(self) -> str:
        """The row under the cursor with nothing cut off, a line for each column."""
        if not len(self._rows):
            return ""
        if isinstance(self._rows, LongRows):
            return self._rows.in_full(self._cursor)
        cells = self._rows[self._cursor].cells
        return "\n".join(f"{column.title:<12} {cell.text}" for column, cell in zip(self._columns, cells, strict=True))

    def show(self, rows: Rows) -> None:
        """Show `rows` in the place of what was shown."""
        at_end = self._follow and self.at_end
        height = self._cursor - self.scroll_offset.y  # of the cursor on the screen
        self._rows = rows
        self._cursor = len(rows) - 1 if at_end else self._find(self._cursor_key)
        self._cursor = min(max(self._cursor, 0), max(len(rows) - 1, 0))
        self._arrange()
        if at_end:
            self._scroll_to_cursor()
            self.call_after_refresh(self._scroll_to_cursor)  # as far as it goes only once new rows are laid out
        elif self._follow and self._cursor - self.scroll_offset.y != height:
            self._scroll(self._cursor - height)
            self.call_after_refresh(self._scroll, self._cursor - height)
        self._paint_changed()
        self._cursor_key = self._key_under()

    def set_columns(self, columns: tuple[Column, ...]) -> None:
        """Show these columns; the rows that are shown next must have them."""
        if columns != self._columns:
            self._columns = columns
            self._fitted_width = -1
            self.refresh()

    def move_to(self, key: str) -> None:
        """Put the cursor on the row with this key, if there is one, without telling."""
        index = self._find(key)
        if key != self._cursor_key and index < len(self._rows) and self._rows.key(index) == key:
            self._cursor_key = key
            self._go(index)

    def action_move(self, rows: int) -> None:
        self._go(self._cursor + rows)

    def action_edge(self, side: int) -> None:
        self._go(0 if side < 0 else len(self._rows) - 1)

    def action_page(self, pages: int) -> None:
        self._go(self._cursor + pages * max(self._room() - 1, 1))

    def action_seek(self, step: int) -> None:
        """Go to the next row, or the previous one, that has what is sought, round and round."""
        count = len(self._rows)
        places = (place % count for place in range(self._cursor + step, self._cursor + step * (count + 1), step))
        found = next((place for place in places if has(self._rows, place, self.sought)), None) if self.sought else None
        if found is not None:
            if not 0 <= found - self.scroll_offset.y < self._room():
                self._scroll(found - self._room() // 2)  # with what stands around it
            self._go(found)
        else:
            self.notify(f"no row has {self.sought!r}" if self.sought else "/ says what to look for", markup=False)

    def action_enter(self) -> None:
        if len(self._rows):
            self.post_message(RowEntered(self.id or "", self._cursor_key))

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y < self._heading_lines:
            return
        index = self.scroll_offset.y + offset.y - self._heading_lines
        if index < len(self._rows):
            if index == self._cursor and event.chain > 1:
                self.action_enter()
            self._go(index)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self._wheel(event, -WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self._wheel(event, WHEEL_ROWS)

    def on_focus(self, _event: Focus) -> None:
        self._paint_changed()

    def on_blur(self, _event: Blur) -> None:
        self._paint_changed()

    def on_resize(self, _event: Resize) -> None:
        self._arrange()
        self.refresh()
        self.call_after_refresh(self._scroll_to_cursor)

    def render_line(self, y: int) -> Strip:
        drawn = self._line_at(y)
        self._painted[y] = drawn
        look, base = look_of(self.app), self.rich_style
        if self.has_focus and len(self._rows) and self.scroll_offset.y + y - self._heading_lines == self._cursor:
            base += look["cursor"]
        return strip_of(drawn, self._inner.width, look, base)

    def _line_at(self, y: int) -> Line:
        width = self._inner.width - GUTTER
        if width != self._fitted_width:
            self._fitted, self._fitted_width = fit(self._columns, self._rows, width), width
        if y < self._heading_lines:
            return (Span(" " * GUTTER, "heading"), *heading(self._fitted, width))
        index = self.scroll_offset.y + y - self._heading_lines
        if index >= len(self._rows):
            return (Span(" " * GUTTER + self.empty, "dim"),) if not len(self._rows) and y == self._heading_lines else ()
        mark = CURSOR_MARK if index == self._cursor else " "
        drawn = line(self._rows[index], self._fitted, width)
        if self.sought and has(self._rows, index, self.sought):
            mark, drawn = mark + MATCH_MARK, marked(drawn, self.sought)
        return (Span(mark.ljust(GUTTER), "key" if self.has_focus else "dim"), *drawn)

    def _paint_changed(self) -> None:
        width, height = self._inner
        for y in range(height):
            if self._painted.get(y) != self._line_at(y):
                self.refresh(Region(0, y, width, 1))

    def _arrange(self) -> None:
        self._fitted_width = -1
        size = Size(self.content_size.width, len(self._rows) + self._heading_lines)
        if size != self.virtual_size:
            self.virtual_size = size

    @property
    def _inner(self) -> Size:
        """What is there for lines, beside the scrollbar."""
        return self.scrollable_content_region.size

    def _room(self) -> int:
        return max(self._inner.height - self._heading_lines, 1)

    def _find(self, key: str) -> int:
        """The index of the row with this key; where the cursor is if it is gone."""
        count = len(self._rows)
        if self._cursor < count and self._rows.key(self._cursor) == key:
            return self._cursor
        found = find(self._rows, key) if key else None
        return self._cursor if found is None else found

    def _go(self, index: int) -> None:
        self._cursor = min(max(index, 0), max(len(self._rows) - 1, 0))
        self._scroll_to_cursor()
        self._paint_changed()
        self._tell_cursor()

    def _wheel(self, event: MouseScrollUp | MouseScrollDown, rows: int) -> None:
        """In a log the cursor goes with the wheel: else it would stay at the end, and pull the end back into sight."""
        if self._follow:
            event.stop()
            event.prevent_default()
            self._go(self._cursor + rows)

    def _scroll_to_cursor(self) -> None:
        top, room = self.scroll_offset.y, self._room()
        if self._cursor < top:
            self._scroll(self._cursor)
        elif self._cursor >= top + room:
            self._scroll(self._cursor - room + 1)

    def _scroll(self, top: int) -> None:
        self.scroll_to(y=max(top, 0), animate=False, immediate=True)

    def _key_under(self) -> str:
        return self._rows.key(self._cursor) if len(self._rows) else ""

    def _tell_cursor(self) -> None:
        key = self._key_under()
        if key != self._cursor_key:
            self._cursor_key = key
            self.post_message(RowMoved(self.id or "", key))
