"""The curves of a run with hands on them: another axis, a part of the run, a cursor that values are read under."""

from collections.abc import Sequence
from dataclasses import replace

from textual.events import Click, MouseScrollDown, MouseScrollUp

from tui.drawing.axes import Frame
from tui.drawing.chart import Mark, extent, place_at, places_of
from tui.facts.curves import AXES
from tui.facts.glance import Glance
from tui.widgets.chart_panel import ChartPanel
from tui.widgets.messages import StateMoved

ZOOM = 0.5  # of what is looked at, with each press
PAN = 0.25


class CurvePanel(ChartPanel):
    """The chosen run's curves; each change asks for a repaint. A click sets the cursor, the wheel zooms."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.frame = Frame()
        self._run = ""

    def show_run(self, glance: Glance, highlight: str, marks: Sequence[Mark], legend: str) -> None:
        run = glance.run.run_id if glance.run else ""
        if run != self._run:  # another run is looked at from its whole
            self._run, self.frame = run, Frame(self.frame.axis)
        self.show_glance(glance, highlight, self.frame, marks, legend)

    def next_axis(self) -> str:
        """Go on to the next axis, all of the run in sight; returns its name."""
        self._look(Frame(AXES[(AXES.index(self.frame.axis) + 1) % len(AXES)]))
        return self.frame.axis

    def zoom(self, step: int) -> None:
        """Closer for 1, farther for -1."""
        if self.curves is not None:
            self._look(self.frame.zoomed(ZOOM**step, *extent(self.curves)))

    def show_whole(self) -> None:
        self._look(Frame(self.frame.axis))

    def move_cursor(self, step: int) -> None:
        """To the next place at which a curve has a figure, or (2 and -2) by a leap."""
        if self.curves is not None:
            self._look(self.frame.moved(step, places_of(self.curves)))

    def pan(self, step: int) -> None:
        if self.curves is not None:
            self._look(self.frame.panned(step * PAN, *extent(self.curves)))

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self.curves is not None and not self.curves.empty:
            place = place_at(offset.x, self.curves, self.names, *self.content_size, self.frame)
            if place is not None:
                self._look(replace(self.frame, cursor=place))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.zoom(1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.zoom(-1)

    def _look(self, frame: Frame) -> None:
        self.frame = frame
        self.post_message(StateMoved())
