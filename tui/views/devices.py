"""Every node of our groups over time, and one in full: how busy its machine was, and when it came and went."""

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.drawing.grid import matching
from tui.facts.asks import Wish, asking
from tui.facts.devices import devices_of
from tui.facts.glance import Glance
from tui.views.device_rows import (
    CHANGE_COLUMNS,
    DEVICE_COLUMNS,
    change_rows,
    device_picture,
    device_rows,
    span_text,
)
from tui.views.view import View
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

POINTS = 96  # of a line: two for each column of the widest drawing that most terminals have
ASK = asking("devices", points=POINTS)
ASK_EVERY_S = 10.0  # our machine is measured so often while a run goes on


class DevicesView(View):
    """A table of all nodes; below it the one under the cursor."""

    DEFAULT_CSS = """
    DevicesView #nodes { height: 1fr; min-height: 5; }
    DevicesView #node-lower { height: 2fr; max-height: 36; min-height: 9; }
    .-short DevicesView #node-lower { height: 12; }
    DevicesView #node-facts { width: 1fr; height: 1fr; }
    DevicesView #node-changes { width: 36%; min-width: 30; max-width: 64; height: 1fr; }
    .-narrow DevicesView #node-changes { display: none; }
    """
    SCOPED_CSS = False  # it depends on the screen's size too
    filtered, first = "nodes", "nodes"
    keys = (
        ("Enter", "the node's lines of the log"),
        ("98% 2.82", "our CPU as measured; of other nodes their load, against their cores"),
    )

    def compose(self) -> ComposeResult:
        yield RowTable(DEVICE_COLUMNS, id="nodes", title="Nodes", empty="no nodes known")
        with Horizontal(id="node-lower"):
            yield PictureView(id="node-facts", title="Node")
            yield RowTable(CHANGE_COLUMNS, id="node-changes", title="Came and went", empty="nothing recorded yet")

    def wishes(self, glance: Glance) -> Iterator[Wish]:
        yield Wish(ASK, int(glance.now // ASK_EVERY_S))

    def show(self, glance: Glance) -> None:
        state = glance.state
        devices = state.answers.read(ASK, devices_of)
        table = self.table("nodes")
        rows = device_rows(state, devices, table.size.width)
        self.set_title(table, f"Nodes {len(rows)}" if len(rows) else "Nodes", glance)
        table.show(matching(rows, glance.choice.filter("nodes")))
        node_id = table.cursor_key
        facts = self.query_one("#node-facts", PictureView)
        name = state.names.get(node_id, node_id[-8:])
        facts.set_words(f"Node {name}" if node_id else "Node", state.answers.trouble(ASK) or span_text(devices))
        facts.show(lambda width, height: device_picture(state, devices, node_id, width, height))
        self.table("node-changes").show(change_rows(devices.of(node_id).history))
