"""Several runs side by side: what came of them, the parameters that differ, and their curves in one drawing."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Resize

from tui.drawing.chart import draw_chart, draw_hint
from tui.drawing.grid import ListRows, matching
from tui.drawing.words import counted
from tui.facts.asks import Wish
from tui.facts.compare import (
    FINISHED_ASK,
    LEAST,
    Compared,
    compared,
    kinds_of,
    means_ask,
    names_of,
    overlaid,
    rounds_ask,
    run_ask,
    runs_to_compare,
)
from tui.facts.curves import Kind
from tui.facts.glance import Glance
from tui.facts.runs import Run
from tui.views.compare_rows import compare_columns, compare_rows, in_sight
from tui.views.view import View
from tui.widgets.dialogs import Dialog
from tui.widgets.messages import RowEntered
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

ROOMY_WIDTH = 150  # from here on curves stand beside the table
LOFTY_HEIGHT = 44  # and from here on two kinds of them
TABLE_EDGES = 5  # cells of the table that are no columns: border, gutter, scrollbar
NOTHING = "no runs to compare: mark some with c in the list of runs (2)"


class CompareView(View):
    """The marked runs, or the newest finished ones."""

    filtered, first = "compared", "compared"
    keys = (
        ("← →", "the next runs, where not all are in sight"),
        ("m M", "other curves"),
        ("C", "unmark all: the newest finished runs again"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "shift(-1)", "to the left", show=False),
        Binding("right", "shift(1)", "to the right", show=False),
        Binding("m", "kind(1)", "curve"),
        Binding("M", "kind(-1)", "previous curve", show=False),
        Binding("C", "unmark", "unmark all"),
    ]
    DEFAULT_CSS = """
    CompareView #compare-body { height: 1fr; layout: vertical; }
    CompareView #compared { height: 1fr; }
    CompareView #compare-charts { height: 45%; }
    CompareView #compare-chart, CompareView #compare-chart-2 { height: 1fr; }
    CompareView #compare-chart-2 { display: none; }
    CompareView.-roomy #compare-body { layout: horizontal; }
    CompareView.-roomy #compared { width: 1fr; }
    CompareView.-roomy #compare-charts { width: 50%; height: 1fr; }
    CompareView.-roomy.-lofty #compare-chart-2 { display: block; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._first = 0  # the first run in sight
        self._kind: Kind | None = None
        self._kinds: list[Kind] = []
        self._drawn: dict[str, object] = {}

    def compose(self) -> ComposeResult:
        with Container(id="compare-body"):
            yield RowTable(compare_columns((), 0), id="compared", title="Compare", empty=NOTHING)
            with Vertical(id="compare-charts"):
                yield PictureView(id="compare-chart", title="Curves")
                yield PictureView(id="compare-chart-2", title="Curves")

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= ROOMY_WIDTH, "-roomy")
        self.set_class(event.size.height >= LOFTY_HEIGHT, "-lofty")

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        if len(glance.choice.marked) < LEAST:
            yield Wish(FINISHED_ASK, sum(run.ended for run in glance.state.runs()))
        for run in runs_to_compare(glance.state, glance.choice):
            yield Wish(run_ask(run.run_id), run.state)
            yield Wish(means_ask(run.run_id), run.round)
            yield Wish(rounds_ask(run.run_id), run.round)

    def show(self, glance: Glance) -> None:
        runs = runs_to_compare(glance.state, glance.choice)
        self._show_table(glance, compared(glance.state, runs))
        self._show_charts(glance, runs)

    def _show_table(self, glance: Glance, runs: Sequence[Compared]) -> None:
        table = self.table("compared")
        width = table.size.width - TABLE_EDGES
        count = in_sight(len(runs), width)
        self._first = min(self._first, len(runs) - count)
        shown = runs[self._first : self._first + count]
        names = names_of([each.run for each in runs])
        table.set_columns(compare_columns([names[each.run.run_id] for each in shown], width))
        table.show(matching(compare_rows(shown, runs), glance.choice.filter("compared")) if runs else ListRows())
        title = f"Compare {counted(len(runs), 'run')}" if runs else "Compare"
        if count < len(runs):
            title += f", {self._first + 1} to {self._first + count} in sight: ← →"
        self.set_title(table, title, glance)
        troubles = (glance.state.answers.trouble(run_ask(each.run.run_id)) for each in runs)
        is_marked = len(glance.choice.marked) >= LEAST
        hint = "" if is_marked else "the newest: mark others with c in the list of runs"
        table.set_words(table.words[0], next(filter(None, troubles), hint))

    def _show_charts(self, glance: Glance, runs: Sequence[Run]) -> None:
        curves = {run.run_id: glance.state.curves[run.run_id] for run in runs if run.run_id in glance.state.curves}
        self._kinds = kinds_of(list(curves.values()))
        at = self._kinds.index(self._kind) if self._kind in self._kinds else 0
        names = names_of(runs)
        for place, panel_id in enumerate(("compare-chart", "compare-chart-2")):
            panel = self.query_one(f"#{panel_id}", PictureView)
            kind = self._kinds[(at + place) % len(self._kinds)] if self._kinds else None
            reason = (kind, tuple(names.items()), tuple(each.revision for each in curves.values()))
            if self._drawn.get(panel_id) == reason:
                continue
            self._drawn[panel_id] = reason
            more = len(self._kinds) - 1
            panel.set_words(kind.title if kind else "Curves", f"m: {counted(more, 'more curve')}" if more > 0 else "")
            if kind is None:
                panel.show(partial(draw_hint, "no figures yet", "curves begin with the first round"))
            else:
                panel.show(partial(draw_chart, overlaid(kind, curves), names))

    def on_row_entered(self, message: RowEntered) -> None:
        message.stop()
        self.dashboard.push_screen(Dialog("Compare", self.table("compared").in_full))

    def action_shift(self, runs: int) -> None:
        self._first = max(self._first + runs, 0)
        self.dashboard.paint()

    def action_kind(self, step: int) -> None:
        if self._kinds:
            at = self._kinds.index(self._kind) if self._kind in self._kinds else 0
            self._kind = self._kinds[(at + step) % len(self._kinds)]
        self.dashboard.paint()

    def action_unmark(self) -> None:
        self.dashboard.choice.marked.clear()
        self.dashboard.paint()

    def deeds(self) -> Sequence[Deed]:
        return (
            Deed("Compare: next kind of curve", "key m", partial(self.action_kind, 1)),
            Deed("Compare: unmark all runs", "key C", self.action_unmark),
        )
