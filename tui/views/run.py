"""One run: its facts, curves, participants, rounds, Gantt chart, parameters, log, and what befell it.

How many of these panels are in sight at once follows from the room: all of them, the first two and one of the others,
or one alone. b and B go from one to the next.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Click, DescendantFocus, Resize

from tui.drawing.chart import Mark
from tui.drawing.grid import Column, ListRows, matching
from tui.drawing.lines import plain_lines
from tui.drawing.picture import Span
from tui.facts.asks import Ask, Wish
from tui.facts.glance import Glance
from tui.facts.happenings import happenings_of, last_updates, updates_of
from tui.facts.parameters import parameters_of
from tui.facts.runs import Run, commits_of, rounds_of
from tui.facts.spans import spans_of
from tui.views.bars import run_lines
from tui.views.log_rows import LOG_COLUMNS, NO_LINES, log_rows
from tui.views.run_asks import RunAsks, run_asks
from tui.views.run_past_rows import (
    HAPPENING_COLUMNS,
    PARAMETER_COLUMNS,
    PART_COLUMNS,
    ROUND_COLUMNS,
    happening_rows,
    lanes_of,
    legend_of,
    marks_of,
    parameter_rows,
    part_rows,
    round_rows,
    round_text,
)
from tui.views.view import View
from tui.widgets.curve_panel import CurvePanel
from tui.widgets.dialogs import Dialog
from tui.widgets.gantt_panel import GanttPanel
from tui.widgets.messages import RowEntered
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

PANELS = {
    "run-chart": "curves",
    "run-participants": "participants",
    "rounds": "rounds",
    "run-gantt": "gantt",
    "run-happenings": "events",
    "run-parameters": "parameters",
    "run-log": "log",
}
FIRST_TWO = ("run-chart", "run-participants")
ROOM_FOR_ALL = (150, 44)  # columns and rows; from here on each of seven panels still shows something
ROOM_FOR_TWO = (100, 28)
TABLES: dict[str, tuple[tuple[Column, ...], str, str]] = {  # columns, title, and what is said of an empty one
    "run-participants": (PART_COLUMNS, "Participants", "nobody yet"),
    "rounds": (ROUND_COLUMNS, "Rounds and checkpoints", "none committed yet"),
    "run-happenings": (HAPPENING_COLUMNS, "Elections and faults", "none yet"),
    "run-parameters": (PARAMETER_COLUMNS, "Parameters", "not known here"),
}


class RunView(View):
    """As many panels about the chosen run as there is room for; keys choose which, and what of its curves."""

    filtered, first = "run-participants", "run-participants"
    keys: ClassVar[Sequence[tuple[str, str]]] = (
        ("b B", "the next panel, the one before, where not all fit"),
        ("o", "curves over rounds, steps or time"),
        ("+ - 0", "closer, farther, all of the run"),
        ("← →", "read values under a cursor; with Ctrl by leaps"),
        (", .", "move along the curves"),
        ("Enter", "a participant's node; a round with its updates"),
    )
    DEFAULT_CSS = """
    RunView #run-facts { height: 6; }
    RunView #run-tabs { height: 1; }
    RunView Horizontal { height: 1fr; }
    RunView Horizontal > * { width: 1fr; height: 1fr; }
    RunView.-all #run-tabs { display: none; }
    RunView.-all #run-below { height: 30%; }
    RunView.-all #run-last { height: 24%; }
    RunView.-two #run-facts { height: 5; }
    RunView.-two #run-below, RunView.-two #run-last { height: 38%; }
    RunView.-one #run-facts { height: 2; }
    RunView.-one #run-tabs { dock: bottom; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "panel(1)", "panel"),
        Binding("B", "panel(-1)", "panel before", show=False),
        Binding("o", "axis", "axis"),
        Binding("plus,equals_sign", "zoom_curves(1)", "closer", key_display="+", show=False),
        Binding("minus,underscore", "zoom_curves(-1)", "farther", key_display="-", show=False),
        Binding("0", "whole", "all of the run", show=False),
        Binding("left", "cursor(-1)", "cursor left", show=False),
        Binding("right", "cursor(1)", "cursor right", show=False),
        Binding("ctrl+left", "cursor(-2)", "cursor far left", show=False),
        Binding("ctrl+right", "cursor(2)", "cursor far right", show=False),
        Binding("comma,shift+left", "pan(-1)", "pan left", show=False),
        Binding("full_stop,shift+right", "pan(1)", "pan right", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._chosen = FIRST_TWO[0]
        self._marked: tuple[object, object] = (None, None)
        self._marks: tuple[Mark, ...] = ()

    def compose(self) -> ComposeResult:
        yield PictureView(id="run-facts", title="Run")
        with Horizontal():
            yield CurvePanel(id="run-chart")
            yield self._new_table("run-participants")
        yield PictureView(id="run-tabs")
        with Horizontal(id="run-below"):
            yield GanttPanel(id="run-gantt")
            yield self._new_table("rounds")
        with Horizontal(id="run-last"):
            yield self._new_table("run-happenings")
            yield self._new_table("run-parameters")
            yield RowTable(LOG_COLUMNS, id="run-log", title="Log of the run", empty=NO_LINES, follow=True)

    def _new_table(self, name: str) -> RowTable:
        columns, title, empty = TABLES[name]
        return RowTable(columns, id=name, title=title, empty=empty)

    @property
    def curves(self) -> CurvePanel:
        return self.query_one(CurvePanel)

    @property
    def gantt(self) -> GanttPanel:
        return self.query_one(GanttPanel)

    # Which panels are in sight

    def on_resize(self, event: Resize) -> None:
        room = (event.size.width, event.size.height)
        fits = [name for name, least in (("-all", ROOM_FOR_ALL), ("-two", ROOM_FOR_TWO)) if _holds(room, least)]
        self.remove_class("-all", "-two", "-one")
        self.add_class(*fits[:1] or ["-one"])
        self._arrange()

    @property
    def choices(self) -> list[str]:
        """The panels of which one is in sight at a time; none where all are."""
        if self.has_class("-all"):
            return []
        return [panel for panel in PANELS if self.has_class("-one") or panel not in FIRST_TWO]

    def _arrange(self) -> None:
        choices = self.choices
        if choices and self._chosen not in choices:
            self._chosen = choices[0]
        for panel in PANELS:
            self.query_one(f"#{panel}").display = panel not in choices or panel == self._chosen
        for row in self.query(Horizontal):
            row.display = any(child.display for child in row.children)

    def in_sight(self, panel: str) -> bool:
        return self.query_one(f"#{panel}").display

    def action_panel(self, step: int) -> None:
        """The next panel: shown where only one is, else given the focus."""
        choices = self.choices or list(PANELS)
        focused = self.dashboard.focused
        now = self._chosen if self.choices or focused is None else focused.id
        self.choose_panel(choices[(choices.index(now) + step) % len(choices) if now in choices else 0])

    def choose_panel(self, panel: str) -> None:
        """Show this panel, and give it the focus."""
        if panel in self.choices:
            self._chosen = panel
        self._arrange()
        self.query_one(f"#{panel}").focus()
        self.dashboard.paint()

    def on_click(self, event: Click) -> None:
        """A click on a panel's name shows it."""
        if event.widget is not None and event.widget.id == "run-tabs":
            x = event.x
            for panel, span in self._tabs():
                x -= len(span.text)
                if x < 0:
                    if panel:
                        self.choose_panel(panel)
                    return

    def _tabs(self) -> list[tuple[str, Span]]:
        tabs = [(each, Span(f" {PANELS[each]} ", "here" if each == self._chosen else "")) for each in self.choices]
        return [("", Span(" b ", "key")), *tabs]

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """What is typed as a filter is for the table that has the focus."""
        if event.widget.id in TABLES:
            self.filtered = event.widget.id

    # Keys

    def action_axis(self) -> None:
        self.dashboard.tell(f"curves over {self.curves.next_axis()}")

    def action_zoom_curves(self, step: int) -> None:
        self.curves.zoom(step)

    def action_whole(self) -> None:
        self.curves.show_whole()

    def action_cursor(self, step: int) -> None:
        self.curves.move_cursor(step)

    def action_pan(self, step: int) -> None:
        self.curves.pan(step)

    def on_row_entered(self, message: RowEntered) -> None:
        """A round is shown with all of its updates; the rest is the dashboard's to know."""
        glance = self.dashboard.glance
        if message.table == "rounds" and glance.run is not None:
            message.stop()
            asks, answers = run_asks(glance.run), glance.state.answers
            made = next(each for each in answers.read(asks.rounds, rounds_of) if str(each.round) == message.key)
            updates = [each for each in answers.read(asks.updates, updates_of) if each.round == made.round]
            self.dashboard.push_screen(Dialog(f"Round {made.round}", round_text(made, updates, glance.state.names)))

    def deeds(self) -> Sequence[Deed]:
        panels = [Deed(f"Show {words}", "key b", partial(self.choose_panel, name)) for name, words in PANELS.items()]
        return [
            *panels,
            Deed("Curves over rounds, steps or time", "key o", self.action_axis),
            Deed("All of the run's curves", "key 0", self.action_whole),
        ]

    # What is asked, and shown

    def wishes(self, glance: Glance) -> Sequence[Wish]:
        run = glance.run
        if run is None:
            return ()
        asks = run_asks(run)
        out = sum(each.state in ("LOST", "FAILED") for each in run.participants)
        wishes = [
            Wish(asks.rounds, run.round),
            Wish(asks.updates, run.round),
            Wish(asks.timeline, (run.round, run.term, run.state, run.rounds, out)),
        ]
        if self.in_sight("run-parameters"):
            wishes.append(Wish(asks.manifest))
        if self.in_sight("run-gantt"):
            wishes.append(Wish(asks.spans(self.gantt.rounds), run.round))
        if glance.kind and (part := asks.part(glance.kind, self.curves.frame)):
            wishes.append(Wish(part))
        return wishes

    def show(self, glance: Glance) -> None:
        run = glance.run
        facts = self.query_one("#run-facts", PictureView)
        facts.set_words(f"Run {run.run_id[:12]}" if run else "Run")
        facts.show(lambda width, height: run_lines(run, width, height))
        if self.choices:
            tabs = [span for _, span in self._tabs()]
            self.query_one("#run-tabs", PictureView).show(lambda width, height: plain_lines([tabs], width, height))
        if run is not None:
            self._show_run(glance, run)
        self.table("run-log").show(log_rows(glance.state, glance.choice, run.run_id if run else "none"))
        self._keep_focus()

    def _show_run(self, glance: Glance, run: Run) -> None:
        asks, answers, ours = run_asks(run), glance.state.answers, glance.state.status.node_id
        updates = answers.read(asks.updates, last_updates)
        self._show_rows("run-participants", part_rows(run, ours, glance.curves, glance.kind, updates), glance)
        rounds = answers.read(asks.rounds, rounds_of)
        self._show_curves(glance, asks)
        self._show_rows("rounds", round_rows(rounds, glance.state.names), glance, asks.rounds)
        happenings = answers.read(asks.timeline, happenings_of)
        self._show_rows("run-happenings", happening_rows(happenings), glance, asks.timeline)
        if self.in_sight("run-parameters"):
            parameters = parameter_rows(answers.read(asks.manifest, parameters_of))
            self._show_rows("run-parameters", parameters, glance, asks.manifest)
        if self.in_sight("run-gantt"):
            self.gantt.newest = run.round if run.ended else run.round + 1
            told = asks.spans(self.gantt.rounds)
            spans = self.gantt.rounds.among(answers.read(told, spans_of), self.gantt.newest)
            if answers.known(told) or answers.trouble(told):
                commits = answers.read(asks.rounds, commits_of)
                self.gantt.show_spans(run.name, spans, lanes_of(run, ours), commits, answers.trouble(told))

    def _show_rows(self, name: str, rows: ListRows, glance: Glance, ask: Ask | None = None) -> None:
        """`ask`: where they come from; when that came to nothing, the table says why."""
        table = self.table(name)
        _, title, empty = TABLES[name]
        table.empty = (glance.state.answers.trouble(ask) if ask else "") or empty
        self.set_title(table, f"{title} {len(rows)}" if len(rows) else title, glance)
        table.show(matching(rows, glance.choice.filter(name)))

    def _show_curves(self, glance: Glance, asks: RunAsks) -> None:
        parts = self.table("run-participants")
        happenings = glance.state.answers.read(asks.timeline, happenings_of)
        curves = glance.curves.of(glance.kind, self.curves.frame.axis) if glance.curves and glance.kind else None
        if self._marked[0] is not happenings or self._marked[1] is not curves:
            commits = glance.state.answers.read(asks.rounds, commits_of)
            self._marked, self._marks = (happenings, curves), marks_of(happenings, curves, commits)
        highlight = parts.cursor_key if parts.has_focus else ""
        self.curves.show_run(glance, highlight, self._marks, legend_of(happenings))

    def _keep_focus(self) -> None:
        """What is hidden cannot have the focus; then what is shown in its place has it."""
        focused = self.dashboard.focused
        if focused is None or (focused.id in PANELS and not focused.display):
            self.query_one(f"#{self._chosen}").focus()


def _holds(room: tuple[int, int], least: tuple[int, int]) -> bool:
    return room[0] >= least[0] and room[1] >= least[1]
