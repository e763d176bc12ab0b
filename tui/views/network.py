"""The network: who is there, who aggregates, what is on its way, and beside it what is going on."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from tui.drawing.grid import matching
from tui.facts.glance import Glance
from tui.views.log_rows import LOG_COLUMNS, log_rows
from tui.views.node_rows import scene
from tui.views.run_rows import PARTICIPANT_COLUMNS, RUN_COLUMNS, participant_rows, run_rows
from tui.views.view import View
from tui.widgets.messages import RowMoved
from tui.widgets.panels import ChartPanel, TopologyPanel
from tui.widgets.row_table import RowTable

NO_RUNS = "no runs yet: fednode run start proposes one"
NO_LINES = "nothing yet"


class NetworkView(View):
    """Everything at once: topology, participants, runs, curves, log."""

    filtered, first = "here-runs", "here-runs"

    def compose(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with Vertical(id="left"):
                yield TopologyPanel(id="topology")
                yield RowTable(PARTICIPANT_COLUMNS, id="participants", title="Participants", empty="nobody yet")
            with Vertical(id="right"):
                yield RowTable(RUN_COLUMNS, id="here-runs", title="Runs", empty=NO_RUNS)
                yield ChartPanel(id="chart")
        yield RowTable(LOG_COLUMNS, id="tail", title="Log", empty=NO_LINES, follow=True, headed=False)

    def show(self, glance: Glance) -> None:
        self._show_runs(glance)
        parts = self.table("participants")
        rows = participant_rows(glance.run, glance.state.status.node_id, glance.curves, glance.kind)
        self.set_title(parts, f"Participants {len(rows)}" if len(rows) else "Participants", glance)
        parts.show(matching(rows, glance.choice.filter("participants")))
        self.query_one(TopologyPanel).show_scene(glance, scene(glance.state, glance.run))
        self.query_one(ChartPanel).show_glance(glance, parts.cursor_key if parts.has_focus else "")
        self.table("tail").show(log_rows(glance.state, glance.choice))

    def _show_runs(self, glance: Glance) -> None:
        table = self.table("here-runs")
        rows = run_rows(glance.state.runs())
        self.set_title(table, f"Runs {len(rows)}" if len(rows) else "Runs", glance)
        table.show(matching(rows, glance.choice.filter("here-runs")))
        if glance.run:
            table.move_to(glance.run.run_id)

    def on_row_moved(self, message: RowMoved) -> None:
        if message.table == "here-runs":
            self.dashboard.choice.run_id = message.key
