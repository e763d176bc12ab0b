"""The network: who is there, who aggregates, what is on its way, and beside it what is going on."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from tui.drawing.grid import matching
from tui.facts.glance import Glance
from tui.views.log_rows import LOG_COLUMNS, NO_LINES, log_rows
from tui.views.node_card import card
from tui.views.node_rows import scene
from tui.views.run_rows import NO_RUNS, PARTICIPANT_COLUMNS, RUN_COLUMNS, participant_rows, run_rows
from tui.views.transfer_rows import LINES_MAX, transfer_lines
from tui.views.view import View
from tui.widgets.chart_panel import ChartPanel
from tui.widgets.messages import RowEntered, RowMoved
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable
from tui.widgets.topology_panel import TopologyPanel

ROOM_FOR_BOTH = 44  # lines from which on a node's card leaves the participants in sight


class NetworkView(View):
    """Everything at once: topology, participants, runs, curves, log."""

    # A selected node's card takes the participants' place, and exactly that: the ring must not move under the mouse. On
    # a high screen it is always there, on a low one it takes the place of the curves.
    DEFAULT_CSS = """
    NetworkView .node-card { display: none; }
    NetworkView #node-card { height: 2fr; min-height: 9; }
    .-tall NetworkView.-chosen #node-card, NetworkView.-room #node-card { display: block; }
    .-tall NetworkView.-chosen #participants { display: none; }
    .-tall NetworkView.-room #participants { display: block; }
    .-short NetworkView.-chosen #node-card-low { display: block; height: 1fr; }
    .-short NetworkView.-chosen #chart { display: none; }
    .-narrow NetworkView.-chosen #node-card-low { display: none; }
    .-narrow NetworkView.-chosen #chart { display: block; }
    """
    SCOPED_CSS = False  # it depends on the screen's size too
    filtered, first = "here-runs", "here-runs"
    keys: ClassVar = (
        ("arrows j k", "in the topology: from node to node"),
        ("g c", "our own node; the aggregator"),
        ("Enter Esc", "the selected node over time; no node"),
        ("▸◂ ( )", "the selected node; the other nodes of its member"),
    )

    def compose(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with Vertical(id="left"):
                yield TopologyPanel(id="topology")
                yield PictureView(id="node-card", classes="node-card")
                yield RowTable(PARTICIPANT_COLUMNS, id="participants", title="Participants", empty="nobody yet")
            with Vertical(id="right"):
                yield RowTable(RUN_COLUMNS, id="here-runs", title="Runs", empty=NO_RUNS)
                yield PictureView(id="node-card-low", classes="node-card")
                yield ChartPanel(id="chart")
        with Vertical(id="lower"):
            yield PictureView(id="under-way")
            yield RowTable(LOG_COLUMNS, id="tail", title="Log", empty=NO_LINES, follow=True, headed=False)

    def show(self, glance: Glance) -> None:
        self._show_runs(glance)
        parts = self.table("participants")
        rows = participant_rows(glance.run, glance.state.status.node_id, glance.curves, glance.kind)
        self.set_title(parts, f"Participants {len(rows)}" if len(rows) else "Participants", glance)
        parts.show(matching(rows, glance.choice.filter("participants")))
        highlight = parts.cursor_key if parts.has_focus else ""
        selected = glance.choice.node_id
        self.query_one(TopologyPanel).show_scene(glance, scene(glance.state, glance.run), highlight or selected)
        self._show_card(glance, selected)
        self.query_one(ChartPanel).show_glance(glance, highlight or selected)
        self._show_under_way(glance)
        self.table("tail").show(log_rows(glance.state, glance.choice))

    def _show_under_way(self, glance: Glance) -> None:
        """What takes longer than a second, in lines that the log gives up for it: nothing else moves."""
        under_way = glance.state.under_way
        lines = min(len(under_way), LINES_MAX if self.screen.has_class("-tall") else 1)
        box = self.query_one("#under-way", PictureView)
        if box.styles.height is None or box.styles.height.value != lines:
            box.styles.height = lines
        box.show(lambda width, height: transfer_lines(under_way, width, height))

    def _show_runs(self, glance: Glance) -> None:
        table = self.table("here-runs")
        rows = run_rows(glance.state.runs())
        self.set_title(table, f"Runs {len(rows)}" if len(rows) else "Runs", glance)
        table.show(matching(rows, glance.choice.filter("here-runs")))
        if glance.run:
            table.move_to(glance.run.run_id)

    def _show_card(self, glance: Glance, node_id: str) -> None:
        """Of the selected node; of our own while none is, where a card is always in sight."""
        self.set_class(bool(node_id), "-chosen")
        self.set_class(self.size.height >= ROOM_FOR_BOTH, "-room")
        state = glance.state
        node_id = node_id or state.status.node_id
        for box in self.query(".node-card").results(PictureView):
            box.set_words(state.names.get(node_id, node_id[-8:]) or "Node", "Enter: over time" if node_id else "")
            box.show(lambda width, height: card(state, node_id, width, height))

    def on_row_moved(self, message: RowMoved) -> None:
        if message.table == "here-runs":
            self.dashboard.choice.run_id = message.key
        elif message.table == "topology":
            self.dashboard.choice.node_id = message.key

    def on_row_entered(self, message: RowEntered) -> None:
        if message.table == "topology":
            message.stop()
            self.dashboard.look_at_node(message.key)
