"""The dashboard's application: its parts, the feed's reader, and the one place that decides when to paint."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.events import Click
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Footer, Input

from tui.facts.asks import Ask, Questions, Wish, asking
from tui.facts.curves import points_of
from tui.facts.fields import Json
from tui.facts.glance import Glance
from tui.feeds.command_line import CommandLine
from tui.feeds.feed import Feed, FeedError
from tui.habits import HabitsApp
from tui.settings import Settings
from tui.views.bars import notice, notice_line, tab_at, top_lines
from tui.views.compare import CompareView
from tui.views.data import DataView
from tui.views.devices import DevicesView
from tui.views.group import GroupView
from tui.views.inbox import InboxView
from tui.views.logs import LogsView
from tui.views.network import NetworkView
from tui.views.run import RunView
from tui.views.runs import RunsView
from tui.views.view import View
from tui.widgets.dialogs import Dialog, help_text
from tui.widgets.messages import RowEntered, StateMoved
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

# In the order of their number keys; the inbox, which is looked at from anywhere, has a letter.
VIEWS: dict[str, tuple[str, type[View]]] = {
    "network": ("1", NetworkView),
    "runs": ("2", RunsView),
    "run": ("3", RunView),
    "compare": ("4", CompareView),
    "devices": ("5", DevicesView),
    "data": ("6", DataView),
    "logs": ("7", LogsView),
    "group": ("8", GroupView),
    "inbox": ("i", InboxView),
}
HOME = "network"
TABS = tuple((key, name) for name, (key, _) in VIEWS.items())
REPAINT_S = 0.5  # twice a second is as fast as one reads figures, and leaves the core to training
RUNS_OFFERED_MAX = 50  # in the palette; beyond these one filters the list of runs
POINTS_ASKED = 600  # of each curve, thinned out by the node: three for each column of a wide terminal
LOG_LINES_ASKED = 2_000  # the newest; what one scrolls back to at the start


class Dashboard(HabitsApp):
    """Shows what a feed tells. All that is shown lies in `state` and `choice`; a repaint happens only after news."""

    TITLE = "fednode"
    CSS_PATH = "dashboard.tcss"
    ALLOW_IN_MAXIMIZED_VIEW = "Footer, #top, #notice"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"view('{name}')", name, show=False) for name, (key, _) in VIEWS.items()),
        Binding("question_mark,f1", "help", "help", key_display="?"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("m", "curve(1)", "curve"),
        Binding("M", "curve(-1)", "previous curve", show=False),
        Binding("a", "accept", "accept"),
        Binding("x", "decline", "decline"),
        Binding("S", "stop", "stop run"),
        Binding("P", "propose", "propose a run", show=False),
        Binding("right_square_bracket", "run(1)", "next run", show=False),
        Binding("left_square_bracket", "run(-1)", "previous run", show=False),
        Binding("v", "level", "log level", show=False),
        Binding("z", "zoom", "zoom"),
        Binding("space,p", "pause", "pause", show=False),
        Binding("y", "copy", "copy id", show=False),
        Binding("l", "app.focus_next", "next panel", show=False),
        Binding("h", "app.focus_previous", "previous panel", show=False),
        Binding("escape", "out", "back", show=False),
        Binding("q", "quit", "quit"),
    ]

    def __init__(
        self,
        feed: Feed,
        *,
        clock: Callable[[], float] = time.monotonic,
        repaint_s: float = REPAINT_S,
        settings: Settings | None = None,
        command_line: CommandLine | None = None,
    ) -> None:
        super().__init__(feed, command_line, settings)
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (64, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
        self.clock = clock
        self._repaint_s = repaint_s
        self.questions = Questions()
        self._view = HOME
        self._came_from = HOME
        self._focus_in: dict[str, str] = {}
        self._paused = False
        self._painted_at = clock() - repaint_s
        self._armed: Timer | None = None

    def compose(self) -> ComposeResult:
        yield PictureView(id="top")
        yield PictureView(id="notice")
        with ContentSwitcher(initial=f"view-{HOME}", id="views"):
            for name, (_, view) in VIEWS.items():
                yield view(id=f"view-{name}")
        yield Input(placeholder="show only what contains …", id="filter", compact=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.begin_theme()
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
        for ask in self._due(glance):
            self.run_worker(self._ask(ask), group="questions")
        if self.questions.postponed or self.state.moving(glance.now):
            self._arm()

    def _due(self, glance: Glance) -> list[Ask]:
        state = self.state
        return self.questions.due(self._wishes(glance), state.snapshots, glance.now, state.answers.remembers)

    def _wishes(self, glance: Glance) -> Iterator[Wish]:
        """What is to be asked while things are as they are: the view's own questions, and what several views show."""
        if self.state.connection.state != "live":
            return
        yield Wish(asking("logs", limit=LOG_LINES_ASKED), self.state.log.left_out)
        if glance.run:
            yield Wish(asking("runs", glance.run.run_id, "series"))
            if glance.kind:
                yield Wish(points_of(glance.run.run_id, glance.kind, POINTS_ASKED))
            if not self.state.is_followed(glance.run.run_id):
                yield Wish(asking("runs", glance.run.run_id))
        yield from self.view.wishes(glance)

    def _paint_bars(self) -> None:
        state, view, paused = self.state, self._view, self._paused
        self.query_one("#top", PictureView).show(
            lambda width, height: top_lines(state, TABS, view, self.feed.title, width, height, paused=paused)
        )
        told = notice(state)
        bar = self.query_one("#notice", PictureView)
        bar.set_class(told is not None, "shown")
        bar.show(lambda width, height: notice_line(told, width, height))

    async def _ask(self, ask: Ask) -> None:
        try:
            self.state.take(ask, await self.feed.ask(ask))
        except FeedError as error:
            self.state.answers.fail(ask, str(error))
        finally:
            self.questions.answered(ask)
        self._arm()

    def _take(self, event: Json) -> None:
        if self.state.apply(event, self.clock()) and self._armed is None:
            self.post_message(StateMoved())

    # Views

    def action_view(self, name: str) -> None:
        if name == self._view:
            self.view.begin()
            return
        focused = self.focused
        self._focus_in[self._view] = (focused.id or "") if focused else ""
        self._came_from, self._view = self._view, name
        self.screen.minimize()
        self.query_one(ContentSwitcher).current = f"view-{name}"
        self._end_filter()
        (self.query(f"#{self._focus_in.get(name) or self.view.first}").first()).focus()
        self.view.begin()
        self.paint()

    def action_out(self) -> None:
        """One step out: the zoom, the filter, the view."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.query_one("#filter").has_class("shown") or self.choice.filter(self.view.filtered):
            self.choice.filters[self.view.filtered] = ""
            self._end_filter()
        elif self._view != HOME:
            self.action_view(self._came_from if self._came_from != self._view else HOME)
            self._came_from = HOME
        self.paint()

    def action_zoom(self) -> None:
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self.focused is not None:
            self.screen.maximize(self.focused, container=False)

    def action_help(self) -> None:
        self.push_screen(Dialog(f"Keys and signs: {self._view}", help_text(self.view.keys)))

    def action_pause(self) -> None:
        """Hold the replay still, or the picture; or let it go on."""
        if self.replay:
            self.replay.hold()
            return
        self._paused = not self._paused
        if self._paused:
            self._paint_bars()
        else:
            self.paint()

    def on_click(self, event: Click) -> None:
        """A click on a tab of the top bar opens its view."""
        if event.widget is self.query_one("#top") and event.y == 0:
            name = tab_at(self.state, TABS, self._view, self.size.width, event.x)
            if name:
                self.action_view(name)

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
            self.view.table(self.view.filtered).sought = event.value
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

    def on_row_moved(self) -> None:
        self._arm()

    def on_row_entered(self, message: RowEntered) -> None:
        """Look closer, where the view itself does not know better: a run, a node, a node's log, a line in full."""
        if message.table in ("here-runs", "runs", "compared", "inbox"):
            self.look_at_run(message.key)
        elif message.table in ("participants", "run-participants"):
            self.look_at_node(message.key)
        elif message.table == "nodes":
            self.choice.log_node = message.key
            self.action_view("logs")
        else:
            table = self.query(f"#{message.table}").first(RowTable)
            self.push_screen(Dialog(table.words[0], table.in_full))

    def look_at_run(self, run_id: str) -> None:
        """Go to the view of this run."""
        self.choice.run_id = run_id
        self.action_view("run")
        self.paint()

    def look_at_node(self, node_id: str) -> None:
        """Go to the view of nodes, with this one under the cursor."""
        self.action_view("devices")
        self.query_one(DevicesView).turn_to(own=False)
        self.view.table("nodes").move_to(node_id)
        self.paint()

    def look_at_group(self, group_id: str) -> None:
        """Go to the view of groups, with this one in it."""
        self.query_one(GroupView).look_at(group_id)
        self.action_view("group")

    def look_at_own(self) -> None:
        """Go to one's own nodes."""
        self.action_view("devices")
        self.query_one(DevicesView).turn_to(own=True)

    def deeds(self) -> list[Deed]:
        """Everything the palette offers."""
        deeds = [*self.run_deeds(), *self.view.deeds()]
        deeds += [
            Deed(f"Go to {name}", f"key {key}", partial(self.action_view, name)) for name, (key, _) in VIEWS.items()
        ]
        deeds.append(Deed("Go to own nodes, device links, profile, doctor", "keys 5 o", self.look_at_own))
        for run in self.state.runs()[:RUNS_OFFERED_MAX]:
            deeds.append(Deed(f"Look at run {run.name}", run.state.lower(), partial(self.look_at_run, run.run_id)))
        deeds.append(Deed("Next kind of curve", "key m", partial(self.action_curve, 1)))
        deeds.append(Deed("Filter what is listed", "key /", self.action_filter))
        deeds.append(Deed("Hold the picture still, or let it go on", "key space", self.action_pause))
        return [*deeds, *self.habit_deeds(), *self.actions.command_deeds()]
