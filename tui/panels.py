"""The two drawings that several screens show: the topology and a run's curves. Each redraws only for a reason."""

from tui.bars import curve_title
from tui.chart import draw_chart
from tui.curves import CurveSet
from tui.glance import Glance
from tui.picture import Picture
from tui.picture_view import PictureView
from tui.state import TRANSFER_SHOWN_S
from tui.topology import Scene, Topology
from tui.views import names_of, scene
from tui.words import counted

LEGEND = "→ update  ⇒ checkpoint"


class TopologyPanel(PictureView, can_focus=True):
    """The nodes on their ring, seen from the chosen run."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Topology")
        self._drawn: tuple[Scene, int, int, Topology] | None = None

    def show_glance(self, glance: Glance) -> None:
        seen = scene(glance.state, glance.run)
        moving = glance.state.moving(glance.now)
        self.set_words(f"Topology of {seen.run_name}" if seen.run_name else "Topology", LEGEND)
        self.show(
            lambda width, height: self._topology(seen, width, height).picture(moving, glance.now, TRANSFER_SHOWN_S)
        )

    def _topology(self, seen: Scene, width: int, height: int) -> Topology:
        if self._drawn is None or self._drawn[:3] != (seen, width, height):
            self._drawn = (seen, width, height, Topology(seen, width, height))
        return self._drawn[3]


class ChartPanel(PictureView, can_focus=True):
    """The chosen run's curves of the chosen kind."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Curves")
        self._reason: object = None
        self._set: CurveSet | None = None

    def show_glance(self, glance: Glance, highlight: str = "") -> None:
        curves, kind = glance.curves, glance.kind
        names = names_of(glance.state)
        reason = (glance.run and glance.run.run_id, kind, curves and curves.revision, highlight, names)
        if reason == self._reason:
            return
        self._reason = reason
        self._set = curves.of(kind) if curves and kind else None
        more = len(curves.kinds()) - 1 if curves else 0
        self.set_words(curve_title(glance.run, self._set), f"m: {counted(more, 'more curve')}" if more else "")
        self.show(lambda width, height: self._draw_set(names, width, height, highlight))

    def _draw_set(self, names: dict[str, str], width: int, height: int, highlight: str) -> Picture:
        return draw_chart(self._set, names, width, height, highlight)
