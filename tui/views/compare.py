"""Several runs side by side."""

from textual.app import ComposeResult

from tui.facts.glance import Glance
from tui.views.network import NO_RUNS
from tui.views.run_rows import RUN_COLUMNS, run_rows
from tui.views.view import View
from tui.widgets.row_table import RowTable


class CompareView(View):
    filtered, first = "compared", "compared"

    def compose(self) -> ComposeResult:
        yield RowTable(RUN_COLUMNS, id="compared", title="Compare", empty=NO_RUNS)

    def show(self, glance: Glance) -> None:
        self.table("compared").show(run_rows([run for run in glance.state.runs() if run.started_at]))
