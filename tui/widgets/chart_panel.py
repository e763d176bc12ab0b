"""A run's curves as a panel, which redraws only for a reason."""

from collections.abc import Sequence

from tui.drawing.axes import Frame
from tui.drawing.chart import WHOLE, Mark, draw_chart
from tui.drawing.words import counted
from tui.facts.curves import CurveSet
from tui.facts.glance import Glance
from tui.facts.runs import Run
from tui.widgets.picture_view import PictureView


class ChartPanel(PictureView, can_focus=True):
    """The chosen run's curves of the chosen kind."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Curves")
        self._reason: object = None
        self._set: CurveSet | None = None
        self.names: dict[str, str] = {}

    @property
    def curves(self) -> CurveSet | None:
        """What is shown."""
        return self._set

    def show_glance(
        self, glance: Glance, highlight: str = "", frame: Frame = WHOLE, marks: Sequence[Mark] = (), legend: str = ""
    ) -> None:
        """The chosen curves, as far as `frame` lets them be seen; `legend` says what `marks` mean."""
        curves, kind = glance.curves, glance.kind
        shown = curves.of(kind, frame.axis) if curves and kind else None
        more = len(curves.kinds()) - 1 if curves else 0
        told = (legend, f"m: {counted(more, 'more curve')}" if more > 0 else "")
        self.set_words(curve_title(glance.run, shown), "  ".join(filter(None, told)))
        names = dict(glance.state.names)
        reason = (glance.run and glance.run.run_id, highlight, names, frame, marks)
        if shown is self._set and reason == self._reason:
            return
        self._set, self._reason, self.names = shown, reason, names
        self.show(lambda width, height: draw_chart(shown, names, width, height, highlight, frame=frame, marks=marks))


def curve_title(run: Run | None, curves: CurveSet | None) -> str:
    """What the chart shows, for its border."""
    if run is None:
        return "Curves"
    return f"{run.name}: {curves.kind.title}" if curves else f"Curves of {run.name}"
