"""The inbox: everything that waits for a person."""

from textual.app import ComposeResult

from tui.facts.glance import Glance
from tui.views.run_rows import RUN_COLUMNS, run_rows
from tui.views.view import View
from tui.widgets.messages import RowMoved
from tui.widgets.row_table import RowTable


class InboxView(View):
    filtered, first = "inbox", "inbox"

    def compose(self) -> ComposeResult:
        yield RowTable(RUN_COLUMNS, id="inbox", title="Inbox", empty="nothing waits for you")

    def show(self, glance: Glance) -> None:
        self.table("inbox").show(run_rows([run for run in glance.state.runs() if run.asks_us]))

    def on_row_moved(self, message: RowMoved) -> None:
        self.dashboard.choice.run_id = message.key
