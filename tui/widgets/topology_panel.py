"""The topology as a panel: nodes that can be walked through with the keys, and picked with the mouse."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click

from tui.drawing.topology import Scene, Topology
from tui.facts.glance import Glance
from tui.facts.state import TRANSFER_SHOWN_S
from tui.widgets.messages import RowEntered, RowMoved
from tui.widgets.picture_view import PictureView

LEGEND = "→ update  ⇒ checkpoint"


class TopologyPanel(PictureView, can_focus=True):
    """The nodes, seen from the chosen run. Tells of a node that is selected, or opened, as tables do of their rows; an
    empty key says that none is selected any more."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "step(1)", "next node", show=False),
        Binding("k", "step(-1)", "node before", show=False),
        Binding("up", "towards(0, -1)", "node above", show=False),
        Binding("down", "towards(0, 1)", "node below", show=False),
        Binding("left", "towards(-1, 0)", "node to the left", show=False),
        Binding("right", "towards(1, 0)", "node to the right", show=False),
        Binding("g", "pick('ours')", "our node", show=False),
        Binding("c", "pick('aggregator')", "the aggregator", show=False),
        Binding("enter", "enter", "open", show=False),
        Binding("escape", "pick('')", "none", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Topology")
        self._drawn: tuple[Scene, int, int, Topology] | None = None
        self._seen = Scene(())
        self._selected = ""

    def show_scene(self, glance: Glance, seen: Scene, selected: str = "") -> None:
        """Show these nodes, with a mark at the selected one, if there is one."""
        moving = glance.state.moving(glance.now)
        self._seen, self._selected = seen, selected
        self.set_words(*self._words(glance, seen))
        self.show(
            lambda width, height: self._topology(seen, width, height).picture(
                moving, glance.now, TRANSFER_SHOWN_S, selected
            )
        )

    def _words(self, glance: Glance, seen: Scene) -> tuple[str, str]:
        """What the border says: how many are here comes first where there is not room for all."""
        title = f"Topology of {seen.run_name}" if seen.run_name else "Topology"
        here = sum(place.here for place in seen.places)
        if glance.state.status.is_record or not seen.places:
            return title, LEGEND
        count = f"{here} of {len(seen.places)} here"
        return (title, f"{count}  {LEGEND}") if self.size.width > len(count) + len(LEGEND) + 8 else (title, count)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """With nothing selected, Escape is not ours."""
        return bool(self._selected) if (action, parameters) == ("pick", ("",)) else True

    def action_step(self, nodes: int) -> None:
        order = self._order
        if order:
            start = order.index(self._selected) + nodes if self._selected in order else order.index(self._first)
            self._select(order[start % len(order)])

    def action_towards(self, dx: int, dy: int) -> None:
        if self._drawn is not None and self._selected in self._order:
            self._select(self._drawn[3].towards(self._selected, dx, dy))
        else:
            self.action_step(0)

    def action_pick(self, which: str) -> None:
        wanted = {"ours": self._first, "aggregator": self._seen.aggregator, "": ""}[which]
        if wanted or not which:
            self._select(wanted)

    def action_enter(self) -> None:
        if self._selected:
            self.post_message(RowEntered(self.id or "", self._selected))

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self._drawn is None:
            return
        node = self._drawn[3].node_at(offset.x, offset.y)
        if node and node == self._selected and event.chain > 1:
            self.action_enter()
        else:
            self._select(node)

    @property
    def _order(self) -> tuple[str, ...]:
        return self._drawn[3].order if self._drawn is not None else ()

    @property
    def _first(self) -> str:
        """Where one begins: our own node, if it is drawn."""
        ours = next((place.node_id for place in self._seen.places if place.ourselves), "")
        return ours if ours in self._order else next(iter(self._order), "")

    def _select(self, node_id: str) -> None:
        if node_id != self._selected:
            self._selected = node_id
            self.post_message(RowMoved(self.id or "", node_id))

    def _topology(self, seen: Scene, width: int, height: int) -> Topology:
        if self._drawn is None or self._drawn[:3] != (seen, width, height):
            self._drawn = (seen, width, height, Topology(seen, width, height))
        return self._drawn[3]
