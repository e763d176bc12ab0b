"""The Gantt chart of a run's rounds as a panel: which rounds and which nodes are in sight is chosen by keys."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.drawing.chart import draw_hint
from tui.drawing.gantt import BESIDE_LANES, Lane, draw_gantt
from tui.drawing.picture import Picture
from tui.facts.spans import Rounds, Span
from tui.widgets.messages import StateMoved
from tui.widgets.picture_view import PictureView


class GanttPanel(PictureView, can_focus=True):
    """What nodes were busy with. `rounds` are those looked at; `newest` is the one under way."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "rounds(-1)", "round before", show=False),
        Binding("right", "rounds(1)", "round after", show=False),
        Binding("minus,underscore", "widen(1)", "more rounds", show=False),
        Binding("plus,equals_sign", "widen(-1)", "fewer rounds", show=False),
        Binding("0", "newest", "newest rounds", show=False),
        Binding("j,down", "lanes(1)", "down", show=False),
        Binding("k,up", "lanes(-1)", "up", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Rounds in time")
        self.rounds = Rounds()
        self.newest = 1
        self._first = 0
        self._lanes: Sequence[Lane] = ()
        self._shown: object = None

    def show_spans(
        self, run: str, spans: Sequence[Span], lanes: Sequence[Lane], commits: Mapping[int, float], trouble: str = ""
    ) -> None:
        """Draw these; whoever calls has chosen the spans by `rounds`. `trouble`: why there are none."""
        self._lanes = lanes
        first, last = self.rounds.ends(self.newest)
        which = f"round {last}" if first == last else f"rounds {first}–{last}"
        self.set_words(f"{run}: {which}" if run else "Rounds in time", "← → rounds  + − fewer, more")
        shown = (spans, lanes, commits, self._first, trouble)
        if shown != self._shown:
            self._shown = shown
            self.show(lambda width, height: self._drawn(spans, commits, trouble, width, height))

    def _drawn(
        self, spans: Sequence[Span], commits: Mapping[int, float], trouble: str, width: int, height: int
    ) -> Picture:
        if trouble:
            return draw_hint("nothing is known of these rounds", trouble, width, height)
        return draw_gantt(spans, self._lanes, commits, width, height, self._first)

    def action_rounds(self, step: int) -> None:
        self.rounds = self.rounds.moved(step, self.newest)
        self.post_message(StateMoved())

    def action_widen(self, more: int) -> None:
        self.rounds = self.rounds.widened(more)
        self.post_message(StateMoved())

    def action_newest(self) -> None:
        self.rounds = Rounds()
        self.post_message(StateMoved())

    def action_lanes(self, step: int) -> None:
        beyond = len(self._lanes) - (self.content_size.height - BESIDE_LANES)
        self._first = min(max(self._first + step, 0), max(beyond, 0))
        self.post_message(StateMoved())
