"""The whole log, to search in."""

from textual.app import ComposeResult

from tui.facts.glance import Glance
from tui.facts.nodes import LEVELS
from tui.views.log_rows import LOG_COLUMNS, log_rows
from tui.views.network import NO_LINES
from tui.views.view import View
from tui.widgets.row_table import RowTable


class LogsView(View):
    filtered, first = "log", "log"

    def compose(self) -> ComposeResult:
        yield RowTable(LOG_COLUMNS, id="log", title="Log", empty=NO_LINES, follow=True)

    def show(self, glance: Glance) -> None:
        table = self.table("log")
        lines = log_rows(glance.state, glance.choice, wanted=glance.choice.filter("log"))
        level = LEVELS[glance.choice.level]
        self.set_title(table, f"Log, {level.lower()} and above: {len(lines)} of {len(glance.state.logs)} lines", glance)
        table.show(lines)
