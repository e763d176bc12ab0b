"""Every node of our groups over time, and one in full: how busy its machine was, and when it came and went.

On a second page one's own nodes: tui.views.own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

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
from tui.views.own import OwnPanel
from tui.views.view import View
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

POINTS = 96  # of a line: two for each column of the widest drawing that most terminals have
ASK = asking("devices", points=POINTS)
ASK_EVERY_S = 10.0  # our machine is measured so often while a run goes on


class DevicesView(View):
    """A table of all nodes, below it the one under the cursor; or, in their place, one's own nodes."""

    DEFAULT_CSS = """
    DevicesView #all-nodes { height: 1fr; }
    DevicesView OwnPanel, DevicesView.-own #all-nodes { display: none; }
    DevicesView.-own OwnPanel { display: block; }
    DevicesView #nodes { height: 1fr; min-height: 5; }
    DevicesView #node-lower { height: 2fr; max-height: 36; min-height: 9; }
    .-short DevicesView #node-lower { height: 12; }
    DevicesView #node-facts { width: 1fr; height: 1fr; }
    DevicesView #node-changes { width: 36%; min-width: 30; max-width: 64; height: 1fr; }
    .-narrow DevicesView #node-changes { display: none; }
    """
    SCOPED_CSS = False  # it depends on the screen's size too
    BINDINGS: ClassVar[list[BindingType]] = [Binding("o", "own", "own nodes")]
    filtered = "nodes"
    first = "nodes"
    keys: ClassVar[Sequence[tuple[str, str]]] = (
        ("Enter", "the node's lines of the log"),
        ("98% 2.82", "our CPU as measured; of other nodes their load, against their cores"),
        ("o", "one's own nodes, the doctor; again: all nodes"),
        *OwnPanel.keys,
    )

    def compose(self) -> ComposeResult:
        with Vertical(id="all-nodes"):
            yield RowTable(DEVICE_COLUMNS, id="nodes", title="Nodes", empty="no nodes known")
            with Horizontal(id="node-lower"):
                yield PictureView(id="node-facts", title="Node")
                yield RowTable(CHANGE_COLUMNS, id="node-changes", title="Came and went", empty="nothing recorded yet")
        yield OwnPanel(id="own")

    def wishes(self, glance: Glance) -> Iterator[Wish]:
        if self.shows_own:
            yield from self.query_one(OwnPanel).wishes(glance)
        else:
            yield Wish(ASK, int(glance.now // ASK_EVERY_S))

    @property
    def shows_own(self) -> bool:
        return self.has_class("-own")

    def begin(self) -> None:
        if self.shows_own:
            self.turn_to(own=False)

    def action_own(self) -> None:
        """From all nodes to one's own, and back."""
        self.turn_to(own=not self.shows_own)

    def turn_to(self, *, own: bool) -> None:
        """Show one's own nodes, or all."""
        self.set_class(own, "-own")
        self.filtered = "own-nodes" if own else "nodes"
        self.table(self.filtered).focus()
        self.dashboard.paint()

    def looked_at(self) -> Mapping[str, str]:
        node_id = self.table(self.filtered).cursor_key
        return {"node": node_id} if node_id else {}

    def deeds(self) -> Sequence[Deed]:
        return self.query_one(OwnPanel).deeds() if self.shows_own else ()

    def show(self, glance: Glance) -> None:
        if self.shows_own:
            self.query_one(OwnPanel).show(glance)
        else:
            self._show_all(glance)

    def _show_all(self, glance: Glance) -> None:
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
