"""The two drawings that several screens show: the topology and a run's curves. Each redraws only for a reason."""

from tui.drawing.chart import draw_chart
from tui.drawing.picture import Picture
from tui.drawing.topology import Scene, Topology
from tui.drawing.words import counted
from tui.facts.curves import CurveSet
from tui.facts.glance import Glance
from tui.facts.runs import Run
from tui.facts.state import TRANSFER_SHOWN_S
from tui.widgets.picture_view import PictureView

LEGEND = "→ update  ⇒ checkpoint"


class TopologyPanel(PictureView, can_focus=True):
    """The nodes on their ring, seen from the chosen run."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Topology")
        self._drawn: tuple[Scene, int, int, Topology] | None = None

    def show_scene(self, glance: Glance, seen: Scene) -> None:
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
        names = dict(glance.state.names)
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


def curve_title(run: Run | None, curves: CurveSet | None) -> str:
    """What the chart shows, for its border."""
    if run is None:
        return "Curves"
    return f"{run.name}: {curves.kind.title}" if curves else f"Curves of {run.name}"
