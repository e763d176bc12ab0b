"""Every node of our groups, and one in full."""

from textual.app import ComposeResult

from tui.drawing.grid import matching
from tui.facts.glance import Glance
from tui.views.bars import node_lines
from tui.views.node_rows import PEER_COLUMNS, peer_rows
from tui.views.view import View
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable


class DevicesView(View):
    filtered, first = "nodes", "nodes"

    def compose(self) -> ComposeResult:
        yield RowTable(PEER_COLUMNS, id="nodes", title="Nodes", empty="no nodes known")
        yield PictureView(id="node-facts", title="Node")

    def show(self, glance: Glance) -> None:
        table = self.table("nodes")
        rows = peer_rows(glance.state)
        self.set_title(table, f"Nodes {len(rows)}" if len(rows) else "Nodes", glance)
        table.show(matching(rows, glance.choice.filter("nodes")))
        peer = glance.state.peers.get(table.cursor_key)
        facts = self.query_one("#node-facts", PictureView)
        facts.set_words(f"Node {peer.name}" if peer else "Node")
        facts.show(lambda width, height: node_lines(glance.state, peer, width, height))
