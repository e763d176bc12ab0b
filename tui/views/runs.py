"""All runs of the node, however many, in a table to search, sort and choose in; beside it the one under the cursor."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.timer import Timer

from tui.drawing.words import counted
from tui.facts.asks import ASK_AGAIN_S, Wish
from tui.facts.glance import Glance
from tui.facts.run_list import MARKED_MAX, Order
from tui.views.run_list_rows import COMING_KEY, PROJECT_KEY, list_columns
from tui.views.run_pages import RunPages
from tui.views.run_preview import preview
from tui.views.run_rows import NO_RUNS
from tui.views.view import View
from tui.widgets.chart_panel import ChartPanel
from tui.widgets.messages import RowEntered, RowMoved, StateMoved
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

ROOMY_WIDTH = 150  # from here on there is room for a run beside the list
NO_MATCH = "no run has this in its name, project, experiment, task, state or tags: Esc ends the search"


class RunsView(View):
    """The table of runs, and beside it, where there is room, the one under the cursor."""

    filtered, first = "runs", "runs"
    keys = (
        ("s r", "sort by the next column; turn the order round"),
        ("b", "project by project; Enter folds one away"),
        ("c C", "mark the run to compare it; unmark all"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort"),
        Binding("r", "turn", "turn round", show=False),
        Binding("b", "by_project", "by project"),
        Binding("c", "mark", "mark"),
        Binding("C", "unmark", "unmark all", show=False),
    ]
    DEFAULT_CSS = """
    RunsView #runs { width: 1fr; }
    RunsView #runs-preview { display: none; width: 36%; max-width: 90; }
    RunsView.-roomy #runs-preview { display: block; }
    RunsView #runs-facts { height: 18; }
    RunsView #runs-chart { height: 1fr; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._pages = RunPages()
        self._look: Timer | None = None
        self._looked_at = ""
        self._source: object = None

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield RowTable(list_columns(Order()), id="runs", title="Runs", empty=NO_RUNS)
            with Vertical(id="runs-preview"):
                yield PictureView(id="runs-facts", title="Run")
                yield ChartPanel(id="runs-chart")

    def on_mount(self) -> None:
        self.watch(self.table("runs"), "scroll_y", self._look_again, init=False)

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= ROOMY_WIDTH, "-roomy")

    def show(self, glance: Glance) -> None:
        table = self.table("runs")
        first = table.scroll_offset.y
        rows = self._pages.rows(glance, range(first, first + max(table.size.height, 1)))
        table.set_columns(list_columns(self._pages.order))
        table.empty = NO_MATCH if glance.choice.filter("runs") else NO_RUNS
        before, at = self._source, table.cursor_key
        self._source = self._pages.source
        table.show(rows)
        if self._source != before and table.cursor_key != at:
            table.action_edge(-1)  # another list, and the run is not on the pages that came: begin at its top
        self._keep_cursor(table, glance)
        self._entitle(table, glance)
        if self.has_class("-roomy"):
            run = glance.run
            self.query_one("#runs-facts", PictureView).show(lambda width, height: preview(run, width, height))
            self.query_one("#runs-chart", ChartPanel).show_glance(glance)
        if self._pages.postponed and self._look is None:
            self._look = self.set_timer(ASK_AGAIN_S, self._look_again)

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        return self._pages.wishes(glance)

    def _keep_cursor(self, table: RowTable, glance: Glance) -> None:
        """The run that is looked at is the one under the cursor, whichever of the two was moved."""
        chosen = glance.run.run_id if glance.run else ""
        if chosen != self._looked_at:
            self._looked_at = chosen
            table.move_to(chosen)
        if table.cursor_key != chosen:
            self._look_at(table.cursor_key)

    def _look_at(self, key: str) -> None:
        if key and not key.startswith((PROJECT_KEY, COMING_KEY)):
            self.dashboard.choice.run_id = self._looked_at = key

    def _look_again(self) -> None:
        self._look = None
        self.post_message(StateMoved())

    def _entitle(self, table: RowTable, glance: Glance) -> None:
        """Into the border: how many there are, and what is typed; or why the node does not tell more."""
        total, found = max(glance.state.runs_total, self._pages.total), self._pages.total
        wanted, marked = glance.choice.filter("runs"), len(glance.choice.marked)
        title = f"Runs {found:,} of {total:,} /{wanted}" if wanted else f"Runs {total:,}" if total else "Runs"
        trouble = glance.state.answers.trouble(self._pages.first_ask)
        hint = f"{marked} marked: 4 compares" if marked else "s sort  b by project  c mark"
        table.set_words(title, f"only {found:,} known here: {trouble}" if trouble else hint)

    # Keys

    def on_row_moved(self, message: RowMoved) -> None:
        self._look_at(message.key)

    def on_row_entered(self, message: RowEntered) -> None:
        if message.key.startswith(PROJECT_KEY):
            self._pages.folded ^= {message.key.removeprefix(PROJECT_KEY)}
            self.dashboard.paint()
        if message.key.startswith((PROJECT_KEY, COMING_KEY)):
            message.stop()

    def action_sort(self) -> None:
        self._put_in(self._pages.order.next_sort())

    def action_turn(self) -> None:
        order = self._pages.order
        self._put_in(order._replace(is_turned=not order.is_turned))

    def action_by_project(self) -> None:
        order = self._pages.order
        self._put_in(order._replace(by_project=not order.by_project))

    def _put_in(self, order: Order) -> None:
        self._pages.order = order
        self.dashboard.paint()
        self.table("runs").action_edge(-1)

    def action_mark(self) -> None:
        marked, key = self.dashboard.choice.marked, self.table("runs").cursor_key
        if key in marked:
            del marked[key]
        elif len(marked) >= MARKED_MAX:
            self.dashboard.tell(f"at most {counted(MARKED_MAX, 'run')} side by side: unmark one with c, or all with C")
        elif self.dashboard.state.run(key):
            marked[key] = None
        self.dashboard.paint()

    def action_unmark(self) -> None:
        self.dashboard.choice.marked.clear()
        self.dashboard.paint()

    def deeds(self) -> Sequence[Deed]:
        return (
            Deed("Runs: sort by the next column", "key s", self.action_sort),
            Deed("Runs: turn the order round", "key r", self.action_turn),
            Deed("Runs: project by project", "key b", self.action_by_project),
            Deed("Runs: mark this one to compare it", "key c", self.action_mark),
            Deed("Runs: unmark all", "key C", self.action_unmark),
        )
