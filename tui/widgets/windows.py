"""Windows that something comes out of: what a command prints while it runs, and a token with its QR code."""

import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Log, Static
from textual.worker import Worker

from tui.drawing.qr import qr_picture, qr_size
from tui.widgets.picture_view import PictureView

OUTPUT_LINES_MAX = 5_000  # the newest; more belongs into a file, which most commands write too
QUICK_S = 5.0  # what is over so soon is an answer, to be read from its beginning
FRAME_COLUMNS, FRAME_LINES = 7, 2  # of the token's window: border, padding, scroll bar
NO_ROOM_LINES = 3  # what a code says that has no room
RUNNING = "running …   Esc stops it"

# Given who hears lines, and how many columns there are; gives how it ended.
Run = Callable[[Callable[[list[str]], object], int], Awaitable[str]]


class CommandWindow(ModalScreen[None]):
    """A command while it runs, and what it printed. Esc interrupts it, and once it has ended closes the window.

    Args:
        line: the command as one types it.
        run: runs it, telling what it prints; gives how it ended, in words. Cancelled when the window is left.
    """

    DEFAULT_CSS = """
    CommandWindow { align: center middle; background: $background 60%; }
    CommandWindow > Vertical {
        width: 96%; height: 90%; border: heavy $accent; background: $surface; padding: 0 1;
    }
    CommandWindow .line { height: auto; max-height: 4; color: $text-accent; text-style: bold; }
    CommandWindow Log { height: 1fr; background: $surface; border: none; scrollbar-size-vertical: 1; }
    CommandWindow .how { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "out", "stop, or close", show=False),
        Binding("enter,q", "close", "close", show=False),
        Binding("y", "copy", "copy", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(self, line: str, run: Run) -> None:
        super().__init__()
        self._line, self._run = line, run
        self._worker: Worker[None] | None = None
        self.ended = ""  # how, in words; empty while it runs

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content("Command")
            yield Static(Text(f"$ {self._line}"), classes="line")
            yield Log(max_lines=OUTPUT_LINES_MAX)
            yield Static(Text(RUNNING), classes="how")

    def on_mount(self) -> None:
        self.query_one(Log).focus()
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        self._worker = self.run_worker(self._follow(), group="command")

    async def _follow(self) -> None:
        log, begun = self.query_one(Log), time.monotonic()
        how = "stopped"
        try:
            how = await self._run(log.write_lines, max(log.size.width - 1, 1))
        except OSError as error:
            how = f"it could not be started: {error.strerror}"
        finally:
            self.ended = how
            if time.monotonic() - begun < QUICK_S:
                log.scroll_home(animate=False)
            if self.is_attached:
                self.query_one(".how", Static).update(Text(f"{how}   y copies what it printed   Esc closes"))

    def action_out(self) -> None:
        if self.ended:
            self.dismiss()
        elif self._worker is not None:
            self.query_one(".how", Static).update(Text("stopping …"))
            self._worker.cancel()

    def action_close(self) -> None:
        if self.ended:
            self.dismiss()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard("\n".join(self.query_one(Log).lines))
        self.app.notify("copied what it printed", markup=False)

    def action_scroll(self, lines: int) -> None:
        self.query_one(Log).scroll_relative(y=lines, animate=False)


class TokenWindow(ModalScreen[None]):
    """A token, of an invitation or a device link: to copy with y, and as a QR code where there is room for it."""

    DEFAULT_CSS = """
    TokenWindow { align: center middle; background: $background 60%; }
    TokenWindow > VerticalScroll {
        width: auto; height: auto; max-width: 100%; max-height: 100%;
        border: heavy $accent; background: $surface; padding: 0 2; scrollbar-size-vertical: 1;
    }
    TokenWindow Static { width: auto; max-width: 100%; }
    TokenWindow .token { color: $text-accent; text-style: bold; margin: 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy", show=False),
        Binding("escape,q,enter", "dismiss", "close", show=False),
    ]

    def __init__(self, title: str, told: str, token: str) -> None:
        super().__init__()
        self._title, self._told, self._token = title, told, token

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = Content(self._title)
            yield Static(Text(self._told))
            yield Static(Text(self._token, overflow="fold"), classes="token")
            yield Static(Text("y copies it   Esc closes"))
            code = PictureView(id="qr")
            code.styles.border = ("none", "transparent")  # which other pictures have
            yield code

    def on_mount(self) -> None:
        # Capitals make the smaller code, and a token reads the same in them.
        self.query_one("#qr", PictureView).show(
            lambda width, _height: qr_picture(
                self._token.upper(), width, self.size.height - FRAME_LINES, (FRAME_COLUMNS, FRAME_LINES)
            )
        )

    def on_resize(self, event: Resize) -> None:
        """A code that no scrolling brings into sight as a whole gives way to words: half of one is of no use."""
        code = self.query_one("#qr", PictureView)
        columns, lines = qr_size(self._token.upper())
        there_is_room = columns <= event.size.width - FRAME_COLUMNS and lines <= event.size.height - FRAME_LINES
        code.styles.width = columns if there_is_room else max(event.size.width - FRAME_COLUMNS, 1)
        code.styles.height = lines if there_is_room else min(NO_ROOM_LINES, lines)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._token)
        self.app.notify("copied the token", markup=False)
