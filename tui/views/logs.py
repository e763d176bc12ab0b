"""The log: filtered by level, node, run and text; followed, or held still and read back into the record.

What comes live is held by the state. Who scrolls above it, or looks for what it does not have, is given pages of the
record, asked for with the same filters. On demand the lines of all of a run's nodes are gathered, which nobody keeps.
"""

from collections import ChainMap
from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.drawing.words import counted
from tui.facts.asks import Ask, Wish, asking
from tui.facts.fields import items, text
from tui.facts.glance import Glance
from tui.facts.log_lines import READ_LINES_MAX, Selection, Sought, place, place_text
from tui.facts.nodes import LEVELS, LogLine
from tui.feeds.feed import FeedError
from tui.views.log_gather import GATHERED_LINES, NODE_COLUMNS, Gathered
from tui.views.log_rows import EXACT_LOG_COLUMNS, NO_LINES, WIDE_LOG_COLUMNS, LogRows
from tui.views.view import View
from tui.widgets.messages import StateMoved
from tui.widgets.palette import Deed
from tui.widgets.row_table import RowTable

PAGE_LINES = 1_000  # of the record at a time: some 250 kB, a few milliseconds
NEAR_TOP_ROWS = 60  # from the first line: so near, the page before is asked for
SETTLED_S = 0.4  # since the last change of the filter: the record is not searched for every letter
WIDE_CELLS = 110  # from here on there is room for the logger's name beside the message
NODES_OFFERED_MAX = 50  # in the palette


class LogsView(View):
    """One table of lines; while those of all nodes are gathered, another of the nodes above it."""

    filtered, first = "log", "log"
    keys: ClassVar[Sequence[tuple[str, str]]] = (
        ("v", "least level: debug, info, warning, error"),
        ("o r", "only the node, the run of this line; again: all"),
        ("A", "gather from all nodes of the run; again: our own log"),
        ("G", "follow; going up holds the log still"),
        ("g", "as far up as is held; there, earlier pages come"),
        ("Enter y", "the line in full; copy it"),
    )
    DEFAULT_CSS = """
    LogsView #log { height: 1fr; }
    LogsView #log-nodes { display: none; height: auto; min-height: 4; max-height: 30%; }
    LogsView.-gathering #log-nodes { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "only_node", "this node"),
        Binding("r", "only_run", "this run"),
        Binding("A", "gather", "all nodes"),
        Binding("y", "copy_line", "copy line", show=False),
        Binding("escape", "widen", "back", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._selection: Selection | None = None
        self._sought_at = 0.0
        self._gathered: Gathered | None = None
        # The first line when it was known, and the place of the page above.
        self._above: tuple[object, str] = (None, "")
        self._begins = False  # the first line is the record's first

    def compose(self) -> ComposeResult:
        yield RowTable(NODE_COLUMNS, id="log-nodes", title="Nodes", empty="waiting for the nodes to answer")
        yield RowTable(EXACT_LOG_COLUMNS, id="log", title="Log", empty=NO_LINES, follow=True)

    def show(self, glance: Glance) -> None:
        table = self.table("log")
        table.sought = glance.choice.filter("log") or table.sought
        selection = self._selected(glance)
        selection.keep_up(still=not table.at_end)
        self._take_page(glance, selection)
        names = ChainMap(self._gathered.names, glance.state.names) if self._gathered else glance.state.names
        columns = WIDE_LOG_COLUMNS if table.size.width >= WIDE_CELLS else EXACT_LOG_COLUMNS
        table.set_columns(columns)
        wanted = glance.choice.filter("log")
        table.empty = f"no line contains {wanted}: v sets the level, Esc ends the filter" if wanted else NO_LINES
        table.show(LogRows(selection, names, columns))
        self._show_words(glance, table, selection)
        self.set_class(self._gathered is not None, "-gathering")
        if self._gathered:
            nodes = self.table("log-nodes")
            nodes.set_words(f"Nodes of {self._gathered.run_name}", self._gathered.why)
            nodes.show(self._gathered.rows())

    def _selected(self, glance: Glance) -> Selection:
        """The lines that are looked at; other ones as soon as something else is looked for."""
        choice, log = glance.choice, self._gathered.log if self._gathered else glance.state.log
        run_id = "" if self._gathered else choice.log_run
        sought = Sought(choice.level, choice.log_node, run_id, choice.filter("log"))
        known = self._selection
        if known is None or known.log is not log or known.sought != sought:
            known = self._selection = Selection(log, sought)
            self._sought_at = glance.now
            self._above, self._begins = (None, ""), False
        return known

    # Pages of the record

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        ask = self._page_above(glance)
        if ask is None:
            return
        if glance.now - self._sought_at < SETTLED_S:
            self.set_timer(SETTLED_S, lambda: self.post_message(StateMoved()))
        else:
            yield Wish(ask)

    def _page_above(self, glance: Glance) -> Ask | None:
        """The question for what lies above the first line, if one stands near it."""
        selection, held = self._selection, glance.state.log.lines
        if selection is None or self._gathered or self._begins or not held or self.table("log").cursor > NEAR_TOP_ROWS:
            return None
        if len(selection.lines) + PAGE_LINES > READ_LINES_MAX:
            return None
        first = selection.lines[0] if selection.lines else None
        if not self._above[1] or self._above[0] != (first and first.key):
            top = first if first and place(first) < place(held[0]) else held[0]
            self._above = (first and first.key, place_text(top))
        sought = selection.sought
        return asking(
            *(("runs", sought.run_id, "logs") if sought.run_id else ("logs",)),
            before=self._above[1],
            limit=PAGE_LINES,
            level=LEVELS[sought.level] if sought.level else None,
            node=sought.node_id or None,
            text=sought.text or None,
        )

    def _take_page(self, glance: Glance, selection: Selection) -> None:
        ask = self._page_above(glance)
        if ask is None or not glance.state.answers.known(ask):
            return
        answer = glance.state.answers.get(ask)
        selection.prepend([LogLine.of(line) for line in items(answer, "logs")])
        above = text(answer, "previous")
        self._above, self._begins = (selection.lines[0].key if selection.lines else None, above), not above

    # Words

    def _show_words(self, glance: Glance, table: RowTable, selection: Selection) -> None:
        sought, state = selection.sought, glance.state
        narrowed = [f"{LEVELS[sought.level].lower()} and above"]
        narrowed += [f"node {state.names.get(sought.node_id, sought.node_id[-8:])}"] if sought.node_id else []
        run = state.run(sought.run_id)
        narrowed += [f"run {run.name if run else sought.run_id[:8]}"] if sought.run_id else []
        title = f"Log of all nodes of {self._gathered.run_name}" if self._gathered else "Log"
        lines = counted(len(selection.lines), "line")
        filtered = f" /{sought.text}" if sought.text else ""
        table.set_words(f"{title}, {', '.join(narrowed)}: {lines}{filtered}", self._standing(glance, table, selection))

    def _standing(self, glance: Glance, table: RowTable, selection: Selection) -> str:
        """Whether the log is followed, and what there is above."""
        words = ["▼ following" if table.at_end else "‖ held still, G follows"]
        ask = self._page_above(glance)
        if selection.is_full:
            words.append(f"{READ_LINES_MAX:,} lines are as many as are held: filter for others")
        elif self._begins:
            words.append("from the record's beginning")
        elif ask is not None:
            words.append(glance.state.answers.trouble(ask) or "asking the record for earlier lines")
        if selection.log.left_out:
            words.append(f"{selection.log.left_out:,} came too fast and are in the record alone")
        return " · ".join(words)

    # Deeds

    def action_only_node(self) -> None:
        line, choice = self._line, self.dashboard.choice
        choice.log_node = "" if choice.log_node or line is None else line.node_id
        self.dashboard.paint()

    def action_only_run(self) -> None:
        """The run of this line, or of one that belongs to none the run that is looked at."""
        line, choice, run = self._line, self.dashboard.choice, self.dashboard.glance.run
        chosen = (line.run_id if line else "") or (run.run_id if run else "")
        choice.log_run = "" if choice.log_run else chosen
        self.dashboard.paint()

    def action_widen(self) -> None:
        """One step out: a node's or a run's lines become all again."""
        choice, app = self.dashboard.choice, self.dashboard
        if (choice.log_node or choice.log_run) and self.screen.maximized is None and not choice.filter("log"):
            self._narrow("", "")
        else:
            app.action_out()

    def action_copy_line(self) -> None:
        if line := self._line:
            self.app.copy_to_clipboard(line.whole or line.message)
            self.dashboard.tell("copied the line's message")

    def action_gather(self) -> None:
        run = self.dashboard.glance.run
        self.workers.cancel_group(self, "gathering")
        if self._gathered is not None or run is None:
            self._gathered = None
        else:
            self._gathered = Gathered(run.run_id, run.name)
            self.run_worker(self._gather(self._gathered), group="gathering")
        self.dashboard.paint()

    async def _gather(self, gathered: Gathered) -> None:
        try:
            async for event in self.dashboard.feed.all_logs(gathered.run_id, limit=GATHERED_LINES, follow=True):
                gathered.take(event)
                self.post_message(StateMoved())
        except FeedError as error:
            gathered.why = str(error)
        self.post_message(StateMoved())

    def deeds(self) -> Sequence[Deed]:
        choice, state, run = self.dashboard.choice, self.dashboard.state, self.dashboard.glance.run
        deeds = [Deed("Log: the lines of every node and run", "key Esc", partial(self._narrow, "", ""))]
        for node, name in list(state.names.items())[:NODES_OFFERED_MAX]:
            deeds.append(Deed(f"Log: only node {name}", "key o", partial(self._narrow, node, choice.log_run)))
        if run:
            deeds.append(Deed(f"Log: only run {run.name}", "key r", partial(self._narrow, choice.log_node, run.run_id)))
            deeds.append(Deed(f"Log: of all nodes of {run.name}, or our own again", "key A", self.action_gather))
        return deeds

    def _narrow(self, node_id: str, run_id: str) -> None:
        self.dashboard.choice.log_node, self.dashboard.choice.log_run = node_id, run_id
        self.dashboard.paint()

    @property
    def _line(self) -> LogLine | None:
        """The line under the cursor."""
        lines, at = self._selection.lines if self._selection else [], self.table("log").cursor
        return lines[at] if at < len(lines) else None
