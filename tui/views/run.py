"""One run: its facts, curves, participants, rounds and log."""

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.drawing.grid import matching
from tui.facts.asks import Wish, asking
from tui.facts.glance import Glance
from tui.facts.runs import rounds_of
from tui.views.bars import run_lines
from tui.views.log_rows import LOG_COLUMNS, log_rows
from tui.views.network import NO_LINES
from tui.views.run_rows import PARTICIPANT_COLUMNS, ROUND_COLUMNS, participant_rows, round_rows
from tui.views.view import View
from tui.widgets.panels import ChartPanel
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable


class RunView(View):
    filtered, first = "run-participants", "run-participants"

    def compose(self) -> ComposeResult:
        yield PictureView(id="run-facts", title="Run")
        with Horizontal(id="run-middle"):
            yield ChartPanel(id="run-chart")
            yield RowTable(PARTICIPANT_COLUMNS, id="run-participants", title="Participants", empty="nobody yet")
        with Horizontal(id="run-lower"):
            yield RowTable(ROUND_COLUMNS, id="rounds", title="Rounds", empty="none committed yet")
            yield RowTable(LOG_COLUMNS, id="run-log", title="Log of the run", empty=NO_LINES, follow=True)

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        if glance.run:
            yield Wish(asking("runs", glance.run.run_id, "rounds"), glance.run.round)

    def show(self, glance: Glance) -> None:
        run = glance.run
        facts = self.query_one("#run-facts", PictureView)
        facts.set_words(f"Run {run.run_id[:12]}" if run else "Run")
        facts.show(lambda width, height: run_lines(run, width, height))
        parts = self.table("run-participants")
        rows = participant_rows(run, glance.state.status.node_id, glance.curves, glance.kind)
        self.set_title(parts, f"Participants {len(rows)}" if len(rows) else "Participants", glance)
        parts.show(matching(rows, glance.choice.filter("run-participants")))
        self.query_one(ChartPanel).show_glance(glance, parts.cursor_key if parts.has_focus else "")
        rounds = glance.state.answers.read(asking("runs", run.run_id, "rounds"), rounds_of) if run else ()
        self.table("rounds").show(round_rows(rounds, glance.state.names))
        self.table("run-log").show(log_rows(glance.state, glance.choice, run.run_id if run else "none"))
