"""The five views behind the number keys. Each lays panels out and hands them their rows; nothing is decided here."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical

from tui import views
from tui.bars import node_lines, run_lines
from tui.choice import matching
from tui.glance import Glance
from tui.grid import ListRows
from tui.log_rows import log_rows
from tui.panels import ChartPanel, TopologyPanel
from tui.picture_view import PictureView
from tui.row_table import RowTable
from tui.words import LEVELS

NO_RUNS = "no runs yet: fednode run start proposes one"
NO_LINES = "nothing yet"


class View(Container):
    """One view. `filtered`: the table that a filter typed here applies to, `first`: the one that gets the focus."""

    filtered: ClassVar[str] = ""
    first: ClassVar[str] = ""

    def show(self, glance: Glance) -> None:
        """Bring every panel up to date."""
        raise NotImplementedError

    def table(self, name: str) -> RowTable:
        return self.query_one(f"#{name}", RowTable)

    def set_title(self, table: RowTable, title: str, glance: Glance) -> None:
        """A panel's title with the filter that is on it."""
        wanted = glance.choice.filter(table.id or "")
        table.set_words(f"{title} /{wanted}" if wanted else title)


def participants_table(id: str) -> RowTable:
    return RowTable(views.PARTICIPANT_COLUMNS, id=id, title="Participants", empty="nobody yet")


def show_participants(view: View, table: RowTable, glance: Glance) -> str:
    """Fill a table of participants; returns the node under its cursor if the table has the focus."""
    rows = views.participant_rows(glance.run, glance.state.status.node_id, glance.curves, glance.kind)
    found = matching(rows, glance.choice.filter(table.id or ""))
    view.set_title(table, f"Participants {len(rows)}" if len(rows) else "Participants", glance)
    table.show(found)
    return table.cursor_key if table.has_focus else ""


def show_runs(view: View, table: RowTable, glance: Glance) -> None:
    """Fill a table of runs; its cursor follows the choice."""
    rows = views.run_rows(glance.state.runs())
    view.set_title(table, f"Runs {len(rows)}" if len(rows) else "Runs", glance)
    table.show(matching(rows, glance.choice.filter(table.id or "")))
    if glance.run:
        table.move_to(glance.run.run_id)


class Overview(View):
    """Everything at once: topology, participants, runs, curves, log."""

    filtered, first = "runs", "runs"

    def compose(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with Vertical(id="left"):
                yield TopologyPanel(id="topology")
                yield participants_table("participants")
            with Vertical(id="right"):
                yield RowTable(views.RUN_COLUMNS, id="runs", title="Runs", empty=NO_RUNS)
                yield ChartPanel(id="chart")
        yield RowTable(views.LOG_COLUMNS, id="tail", title="Log", empty=NO_LINES, follow=True, headed=False)

    def show(self, glance: Glance) -> None:
        show_runs(self, self.table("runs"), glance)
        highlight = show_participants(self, self.table("participants"), glance)
        self.query_one(TopologyPanel).show_glance(glance)
        self.query_one(ChartPanel).show_glance(glance, highlight)
        self.table("tail").show(log_rows(glance.state, glance.choice))


class RunView(View):
    """One run: its facts, curves, participants, rounds and log."""

    filtered, first = "run-participants", "run-participants"

    def compose(self) -> ComposeResult:
        yield PictureView(id="run-facts", title="Run")
        with Horizontal(id="run-middle"):
            yield ChartPanel(id="run-chart")
            yield participants_table("run-participants")
        with Horizontal(id="run-lower"):
            yield RowTable(views.ROUND_COLUMNS, id="rounds", title="Rounds", empty="none committed yet")
            yield RowTable(views.LOG_COLUMNS, id="run-log", title="Log of the run", empty=NO_LINES, follow=True)

    def show(self, glance: Glance) -> None:
        run = glance.run
        facts = self.query_one("#run-facts", PictureView)
        facts.set_words(f"Run {run.run_id[:12]}" if run else "Run")
        facts.show(lambda width, height: run_lines(run, width, height))
        highlight = show_participants(self, self.table("run-participants"), glance)
        self.query_one(ChartPanel).show_glance(glance, highlight)
        rounds = glance.state.rounds.get(run.run_id, ()) if run else ()
        self.table("rounds").show(views.round_rows(rounds, views.names_of(glance.state)))
        lines = log_rows(glance.state, glance.choice, run.run_id if run else "none")
        self.table("run-log").show(lines)


class NodesView(View):
    """Every node of our groups, and one in full."""

    filtered, first = "nodes", "nodes"

    def compose(self) -> ComposeResult:
        yield RowTable(views.PEER_COLUMNS, id="nodes", title="Nodes", empty="no nodes known")
        yield PictureView(id="node-facts", title="Node")

    def show(self, glance: Glance) -> None:
        table = self.table("nodes")
        rows = views.peer_rows(glance.state)
        self.set_title(table, f"Nodes {len(rows)}" if len(rows) else "Nodes", glance)
        table.show(matching(rows, glance.choice.filter("nodes")))
        peer = glance.state.peers.get(table.cursor_key)
        facts = self.query_one("#node-facts", PictureView)
        facts.set_words(f"Node {peer.name}" if peer else "Node")
        facts.show(lambda width, height: node_lines(glance.state, peer, width, height))


class LogView(View):
    """The whole log, to search in."""

    filtered, first = "log", "log"

    def compose(self) -> ComposeResult:
        yield RowTable(views.LOG_COLUMNS, id="log", title="Log", empty=NO_LINES, follow=True)

    def show(self, glance: Glance) -> None:
        table = self.table("log")
        lines = log_rows(glance.state, glance.choice, wanted=glance.choice.filter("log"))
        level = LEVELS[glance.choice.level]
        self.set_title(table, f"Log, {level.lower()} and above: {len(lines)} of {len(glance.state.logs)} lines", glance)
        table.show(lines)


class GroupsView(View):
    """Who is in our groups, and which invitations are out."""

    filtered, first = "members", "members"

    def compose(self) -> ComposeResult:
        yield RowTable(views.MEMBER_COLUMNS, id="members", title="Members", empty="fednode group create makes a group")
        yield RowTable(views.INVITATION_COLUMNS, id="invitations", title="Invitations", empty="none")

    def show(self, glance: Glance) -> None:
        groups = sorted(glance.state.groups.values(), key=lambda group: (group.name, group.group_id))
        named = ", ".join(f"{group.name} (we are {group.role})" for group in groups)
        members = self.table("members")
        rows = views.member_rows(groups)
        self.set_title(members, f"Members of {named}" if named else "Members", glance)
        members.show(matching(rows, glance.choice.filter("members")))
        invitations = self.table("invitations")
        invitations.show(views.invitation_rows(groups) if groups else ListRows())
