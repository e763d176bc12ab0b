"""All runs, in a table to search in."""

from textual.app import ComposeResult

from tui.drawing.grid import matching
from tui.facts.glance import Glance
from tui.views.network import NO_RUNS
from tui.views.run_rows import RUN_COLUMNS, run_rows
from tui.views.view import View
from tui.widgets.messages import RowMoved
from tui.widgets.row_table import RowTable


class RunsView(View):
    filtered, first = "runs", "runs"

    def compose(self) -> ComposeResult:
        yield RowTable(RUN_COLUMNS, id="runs", title="Runs", empty=NO_RUNS)

    def show(self, glance: Glance) -> None:
        table = self.table("runs")
        rows = run_rows(glance.state.runs())
        self.set_title(table, f"Runs {len(rows)}" if len(rows) else "Runs", glance)
        table.show(matching(rows, glance.choice.filter("runs")))
        if glance.run:
            table.move_to(glance.run.run_id)

    def on_row_moved(self, message: RowMoved) -> None:
        self.dashboard.choice.run_id = message.key
