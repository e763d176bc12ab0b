"""The dashboard's application: its parts, the feed's reader, and the one place that decides when to paint."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Footer, Input

from tui.bars import VIEWS, notice, notice_line, top_lines
from tui.deeds import OwnersApp
from tui.dialogs import HELP, Dialog
from tui.feed import Feed, FeedError
from tui.fields import Json
from tui.glance import Glance
from tui.messages import RowEntered, RowMoved, StateMoved
from tui.palette import Deed, Deeds
from tui.picture_view import PictureView
from tui.questions import Due, Questions
from tui.row_table import RowTable
from tui.screens import GroupsView, LogView, NodesView, Overview, RunView, View
from tui.views import names_of

REPAINT_S = 0.5  # twice a second is as fast as one reads figures, and leaves the core to training
THEMES = (
    "textual-dark",
    "nord",
    "gruvbox",
    "tokyo-night",
    "solarized-light",
    "textual-light",
    "ansi-dark",
    "ansi-light",
)

RUNS_OFFERED_MAX = 50  # in the palette; beyond these one filters the list of runs


class Dashboard(OwnersApp):
    """Shows what a feed tells. All that is shown lies in `state` and `choice`; a repaint happens only after news."""

    TITLE = "fednode"
    CSS_PATH = "dashboard.tcss"
    ALLOW_IN_MAXIMIZED_VIEW = "Footer, #top, #notice"
    COMMANDS = App.COMMANDS | {Deeds}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"view('{name}')", name, show=False) for number, name in enumerate(VIEWS, 1)),
        Binding("question_mark,f1", "help", "help", key_display="?"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("m", "curve(1)", "curve"),
        Binding("M", "curve(-1)", "previous curve", show=False),
        Binding("a", "accept", "accept"),
        Binding("x", "decline", "decline"),
        Binding("S", "stop", "stop run"),
        Binding("right_square_bracket", "run(1)", "next run", show=False),
        Binding("left_square_bracket", "run(-1)", "previous run", show=False),
        Binding("v", "level", "log level", show=False),
        Binding("z", "zoom", "zoom"),
        Binding("p", "pause", "pause", show=False),
        Binding("y", "copy", "copy id", show=False),
        Binding("t", "theme", "theme", show=False),
        Binding("l", "app.focus_next", "next panel", show=False),
        Binding("h", "app.focus_previous", "previous panel", show=False),
        Binding("escape", "out", "back", show=False),
        Binding("q", "quit", "quit"),
    ]

    def __init__(
        self, feed: Feed, *, clock: Callable[[], float] = time.monotonic, repaint_s: float = REPAINT_S
    ) -> None:
        super().__init__(feed)
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (64, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
        self.clock = clock
        self._repaint_s = repaint_s
        self._questions = Questions()
        self._view = "overview"
        self._came_from = "overview"
        self._focus_in: dict[str, str] = {}
        self._paused = False
        self._painted_at = clock() - repaint_s
        self._armed: Timer | None = None

    def compose(self) -> ComposeResult:
        yield PictureView(id="top")
        yield PictureView(id="notice")
        with ContentSwitcher(initial="view-overview", id="views"):
            yield Overview(id="view-overview")
            yield RunView(id="view-run")
            yield NodesView(id="view-nodes")
            yield LogView(id="view-log")
            yield GroupsView(id="view-groups")
        yield Input(placeholder="show only what contains …", id="filter", compact=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.theme = THEMES[0]
        self.paint()
        self.view.table(self.view.first).focus()
        self.run_worker(self._follow(), group="feed")

    @property
    def view(self) -> View:
        """The view that is shown."""
        return self.query_one(f"#view-{self._view}", View)

    @property
    def glance(self) -> Glance:
        return Glance(self.state, self.choice, self.clock())

    # The feed

    async def _follow(self) -> None:
        async for event in self.feed.events():
            self._take(event)

    def on_state_moved(self) -> None:
        self._arm()

    def _arm(self) -> None:
        """Paint when the last painting is long enough ago; until then, further news just wait for it."""
        if self._armed is None and not self._paused:
            wait = self._painted_at + self._repaint_s - self.clock()
            self._armed = self.set_timer(max(wait, 0.001), self._paint_news)

    def _paint_news(self) -> None:
        self._armed = None
        if not self._paused:
            with suppress(NoMatches):  # the app is closing, and its widgets are gone already
                self.paint()

    def paint(self) -> None:
        """Bring what is in sight up to date; every widget paints only what differs from before."""
        self.choice.keep_up(self.state)
        glance = self.glance
        self._painted_at = glance.now
        self._paint_bars()
        self.view.show(glance)
        self.show_doable()
        while self.state.notes:
            self.tell(self.state.notes.popleft(), severity="warning")
        for due in self._questions.due(self.state, glance.run, rounds_shown=self._view == "run"):
            self.run_worker(self._ask(due), group="questions")
        if self.state.moving(glance.now):
            self._arm()

    def _paint_bars(self) -> None:
        state, view, paused = self.state, self._view, self._paused
        self.query_one("#top", PictureView).show(
            lambda width, height: top_lines(state, view, self.feed.title, width, height, paused=paused)
        )
        told = notice(state)
        bar = self.query_one("#notice", PictureView)
        bar.set_class(told is not None, "shown")
        bar.show(lambda width, height: notice_line(told, width, height))

    async def _ask(self, due: Due) -> None:
        try:
            if due.about == "rounds":
                self._take(await self.feed.rounds(due.run_id))
                return
            async for event in self.feed.metrics(due.run_id) if due.about == "metrics" else self.feed.logs():
                self._take(event)
        except FeedError as error:
            self.tell(str(error), severity="warning")

    def _take(self, event: Json) -> None:
        if self.state.apply(event, self.clock()) and self._armed is None:
            self.post_message(StateMoved())

    # Views

    def action_view(self, name: str) -> None:
        if name == self._view:
            return
        focused = self.focused
        self._focus_in[self._view] = (focused.id or "") if focused else ""
        self._came_from, self._view = self._view, name
        self.screen.minimize()
        self.query_one(ContentSwitcher).current = f"view-{name}"
        self._end_filter()
        (self.query(f"#{self._focus_in.get(name) or self.view.first}").first()).focus()
        self.paint()

    def action_out(self) -> None:
        """One step out: the zoom, the filter, the view."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.query_one("#filter").has_class("shown") or self.choice.filter(self.view.filtered):
            self.choice.filters[self.view.filtered] = ""
            self._end_filter()
        elif self._view != "overview":
            self.action_view(self._came_from if self._came_from != self._view else "overview")
            self._came_from = "overview"
        self.paint()

    def action_zoom(self) -> None:
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.focused is not None:
            self.screen.maximize(self.focused, container=False)

    def action_help(self) -> None:
        self.push_screen(Dialog("Keys and signs", HELP))

    def action_theme(self) -> None:
        known = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(known + 1) % len(THEMES)]
        self.tell(f"theme {self.theme}")

    def action_pause(self) -> None:
        self._paused = not self._paused
        if self._paused:
            self._paint_bars()
        else:
            self.paint()

    def action_level(self) -> None:
        self.tell(f"log lines of level {self.choice.next_level().lower()} and above")
        self.paint()

    def action_copy(self) -> None:
        if isinstance(self.focused, RowTable) and self.focused.cursor_key:
            self.copy_to_clipboard(self.focused.cursor_key)
            self.tell(f"copied {self.focused.cursor_key}")

    # Filter

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.value = self.choice.filter(self.view.filtered)
        box.add_class("shown")
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_class("shown"):
            self.choice.filters[self.view.filtered] = event.value
            self.paint()

    def on_input_submitted(self) -> None:
        self._end_filter()

    def _end_filter(self) -> None:
        box = self.query_one("#filter", Input)
        if box.has_class("shown"):
            box.remove_class("shown")
            self.view.table(self.view.filtered).focus()

    # What is looked at

    def action_curve(self, step: int) -> None:
        self.choice.next_kind(self.glance.curves, step)
        self.paint()

    def action_run(self, step: int) -> None:
        self.choice.next_run(self.state, step)
        self.paint()

    def on_row_moved(self, message: RowMoved) -> None:
        if message.table == "runs":
            self.choice.run_id = message.key
        self._arm()

    def on_row_entered(self, message: RowEntered) -> None:
        """Look closer: a run, a participant's node, a node's log, a line in full."""
        if message.table == "runs":
            self._look_at(message.key)
        elif message.table in ("participants", "run-participants"):
            self.action_view("nodes")
            self.view.table("nodes").move_to(message.key)
            self.paint()
        elif message.table == "nodes":
            self.choice.filters["log"] = names_of(self.state).get(message.key, "")
            self.action_view("log")
        else:
            table = self.query(f"#{message.table}").first(RowTable)
            self.push_screen(Dialog(table.words[0], table.in_full))

    def _look_at(self, run_id: str) -> None:
        self.choice.run_id = run_id
        self.action_view("run")
        self.paint()

    def deeds(self) -> list[Deed]:
        """Everything the palette offers."""
        deeds = self.run_deeds()
        deeds += [
            Deed(f"Go to {name}", f"key {at}", partial(self.action_view, name)) for at, name in enumerate(VIEWS, 1)
        ]
        for run in self.state.runs()[:RUNS_OFFERED_MAX]:
            deeds.append(Deed(f"Look at run {run.name}", run.state.lower(), partial(self._look_at, run.run_id)))
        deeds.append(Deed("Next kind of curve", "key m", partial(self.action_curve, 1)))
        deeds.append(Deed("Filter what is listed", "key /", self.action_filter))
        deeds.append(Deed("Hold the picture still, or let it go on", "key p", self.action_pause))
        return deeds
