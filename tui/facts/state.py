"""What the dashboard knows: folds a feed's events into the newest facts and says what each event changed.

Pure: no Textual, no clock (the time is an argument), no waiting. Events are the lines of /v1/events (docs/api.md) and
those of feeds' own:

    {"type": "absent", "why", "attempt"}            the node does not answer; a feed goes on trying
    {"type": "played", "at_s", "length_s", "speed", "is_held"}    where a replay stands
    {"type": "rewound"}                             a replay goes back: nothing that was told is so any more

An event of an unknown type changes nothing, so a newer node does no harm.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from tui.facts.asks import Answers, Ask
from tui.facts.curves import Curves
from tui.facts.fields import LONG_AGO, Json, items, measure, name_of, number, object_of, text
from tui.facts.inbox import Item, items_of, waiting
from tui.facts.log_lines import HeldLog, Selection, Sought
from tui.facts.nodes import Group, LogLine, Peer, Status, Transfer
from tui.facts.run_list import ListedRuns
from tui.facts.runs import Run
from tui.facts.transfers import UnderWay

Topic = Literal[
    "connection", "status", "groups", "peers", "runs", "metrics", "answers", "transfers", "logs", "notes", "inbox"
]
Changes = frozenset[Topic]

NOTHING: Changes = frozenset()
EVERYTHING: Changes = frozenset(get_args(Topic))
SELECTIONS_MAX = 4  # of the log that are kept up to date: a view each, and the one before
NOTES_MAX = 8  # more at once would cover the screen
TRANSFERS_MAX = 256  # two rounds of the 100 nodes that a drawing can still show
CURVES_RUNS_MAX = 16  # all that go on and some that are compared; the curves of a large run take 60 MB
TRANSFER_SHOWN_S = 2.0  # long enough to follow a mark by eye, short enough to mean "now"


@dataclass(frozen=True, slots=True)
class Connection:
    """How we stand with the node. `attempt` counts tries since it was last heard."""

    state: Literal["connecting", "live", "absent"] = "connecting"
    why: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """Where a replay stands. `speed`: seconds of the past for one of ours."""

    at_s: float
    length_s: float
    speed: float
    is_held: bool


class State:
    """The newest facts. Read the attributes, change them by `apply` alone."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.status = Status()
        self.played: Played | None = None
        self.snapshots = 0  # how often everything was told anew; what was asked before the last one may be stale
        self.groups: dict[str, Group] = {}
        self.peers: dict[str, Peer] = {}
        self.curves: dict[str, Curves] = {}  # of the runs that were looked at or heard of last; see _curves_of
        self.answers = Answers()  # to what views have asked
        self.names: dict[str, str] = {}  # every node's name by its id, as far as anybody told it
        self.changed: dict[str, int] = {}  # how often what is asked for by questions alone was told to have changed
        self.log = HeldLog()
        self._selections: dict[Sought, Selection] = {}
        self.transfers: deque[Transfer] = deque(maxlen=TRANSFERS_MAX)
        self.under_way: tuple[UnderWay, ...] = ()  # blobs to and from our node that take longer than a second
        self.notes: deque[str] = deque(maxlen=NOTES_MAX)  # what a person should know, until somebody shows it
        self.listed = ListedRuns()  # runs beyond those that events tell of
        self.runs_total = 0  # that the node knows, however many it told of
        self._told_runs: dict[str, Json] = {}
        self._runs: dict[str, Run] = {}
        self._sorted: list[Run] | None = None
        self._told_inbox: tuple[Item, ...] = ()
        self._inbox: tuple[object, object, tuple[Item, ...]] = (None, None, ())

    def apply(self, event: Json, now: float) -> Changes:
        """Take one event in. `now`: any clock that does not go back, in seconds. Returns what changed."""
        fold = _FOLDS.get(text(event, "type"))
        return NOTHING if fold is None else fold(self, event, now) | self._heard(event)

    def runs(self) -> list[Run]:
        """All runs, newest first. A run told ten times between two looks is understood once."""
        if self._sorted is None:
            for run_id, told in self._told_runs.items():
                if run_id not in self._runs:
                    self._runs[run_id] = Run.of(told)
            self._sorted = sorted(self._runs.values(), key=lambda run: run.created_at or LONG_AGO, reverse=True)
        return self._sorted

    def inbox(self) -> tuple[Item, ...]:
        """Everything that waits for a person, as far as it was told."""
        told, runs = self._told_inbox, self.runs()
        if self._inbox[0] is not told or self._inbox[1] is not runs:
            self._inbox = (told, runs, waiting(told, runs))
        return self._inbox[2]

    def run(self, run_id: str) -> Run | None:
        """The run with this id, or None."""
        if run_id not in self._runs and run_id in self._told_runs:
            self._runs[run_id] = Run.of(self._told_runs[run_id])
        return self._runs.get(run_id) or self.listed.run(run_id)

    def is_followed(self, run_id: str) -> bool:
        """Whether events tell how this run goes on; all about another has to be asked for."""
        return run_id in self._told_runs

    def take(self, ask: Ask, answer: Json) -> Changes:
        """Take the answer to a question in. Metrics and log lines join those that came as events."""
        match ask.parts:
            case ("runs", _, "metrics"):
                self._metrics(answer, 0.0)
                answer = {}
            case ("runs", run_id, "series"):
                self._curves_of(run_id).learn_series(answer)
            case ("runs",):
                self.listed.learn(items(answer, "runs"))
            case ("runs", run_id) if text(answer, "run_id") == run_id:
                self.listed.learn([answer])
            case ("logs",) if {name for name, _ in ask.filters} <= {"limit"}:  # the newest, not a page of some
                self.log.merge(map(LogLine.of, items(answer, "logs")))
                answer = {}
        self.answers.take(ask, answer)
        return frozenset(("answers",))

    def moving(self, now: float) -> list[Transfer]:
        """The transfers recent enough to be shown on their way."""
        return [transfer for transfer in self.transfers if now - transfer.at < TRANSFER_SHOWN_S]

    def lines(self, sought: Sought) -> Selection:
        """The held lines of the log that are wanted. Each line is looked at once, however often this is asked."""
        selection = self._selections.pop(sought, None) or Selection(self.log, sought)
        self._selections[sought] = selection
        if len(self._selections) > SELECTIONS_MAX:
            del self._selections[next(iter(self._selections))]
        selection.keep_up()
        return selection

    def _heard(self, event: Json) -> Changes:
        if text(event, "type") in ("absent", "bye") or self.connection.state == "live":
            return NOTHING
        self.connection = Connection("live")
        return frozenset(("connection",))

    def _snapshot(self, event: Json, _now: float) -> Changes:
        self.status = Status.of(object_of(event, "status"))
        self.groups = {group.group_id: group for group in map(Group.of, items(event, "groups"))}
        self.peers = {peer.node_id: peer for peer in map(Peer.of, items(event, "peers"))}
        self._told_runs = {text(run, "run_id"): run for run in items(event, "runs")}
        self.runs_total = max(number(event, "runs_total"), len(self._told_runs))
        self._runs = {}
        self._sorted = None
        self._told_inbox = items_of(event)
        self.under_way = tuple(map(UnderWay.of, items(event, "transfers")))
        for run in self._told_runs.values():
            self._learn_names(run)
        self.names.update((peer.node_id, peer.name) for peer in self.peers.values())
        self.snapshots += 1
        return EVERYTHING

    def _status(self, event: Json, _now: float) -> Changes:
        self.status = Status.of(object_of(event, "status"))
        return frozenset(("status",))

    def _group(self, event: Json, _now: float) -> Changes:
        group = Group.of(object_of(event, "group"))
        self.groups[group.group_id] = group
        return frozenset(("groups",))

    def _peer(self, event: Json, _now: float) -> Changes:
        peer = Peer.of(object_of(event, "peer"))
        self.peers[peer.node_id] = peer
        self.names[peer.node_id] = peer.name
        return frozenset(("peers",))

    def _run(self, event: Json, _now: float) -> Changes:
        told = object_of(event, "run")
        run_id = text(told, "run_id")
        self.runs_total += run_id not in self._told_runs and self.listed.run(run_id) is None
        self._told_runs[run_id] = told
        self._runs.pop(run_id, None)
        self._sorted = None
        self._learn_names(told)
        return frozenset(("runs",))

    def _learn_names(self, told_run: Json) -> None:
        """What a run calls its participants, where nobody nearer to them has said it."""
        for part in items(told_run, "participants"):
            node = text(part, "node_id")
            if node not in self.peers:
                self.names[node] = name_of(part, "name", "node_id")

    def _metrics(self, event: Json, _now: float) -> Changes:
        by_run: dict[str, list[Json]] = {}
        for metric in items(event, "metrics"):
            by_run.setdefault(text(metric, "run_id"), []).append(metric)
        changed = [self._curves_of(run_id).add(metrics) for run_id, metrics in by_run.items()]
        return frozenset(("metrics",)) if any(changed) else NOTHING

    def _curves_of(self, run_id: str) -> Curves:
        """The run's curves, to add to. Those of the run that heard nothing for longest go where there are too many;
        whoever looks at it again asks again."""
        known = self.curves.pop(run_id) if run_id in self.curves else Curves()
        self.curves[run_id] = known
        if len(self.curves) > CURVES_RUNS_MAX:
            old = next(iter(self.curves))
            del self.curves[old]
            self.answers.forget(("runs", old))
        return known

    def _transfer(self, event: Json, now: float) -> Changes:
        self.transfers.append(Transfer.of(event, now))
        return frozenset(("transfers",))

    def _under_way(self, event: Json, _now: float) -> Changes:
        self.under_way = tuple(map(UnderWay.of, items(event, "transfers")))
        return frozenset(("transfers",))

    def _log(self, event: Json, _now: float) -> Changes:
        """One line, as nodes told it that did not put lines together."""
        return frozenset(("logs",)) if self.log.add([LogLine.of(object_of(event, "log"))]) else NOTHING

    def _logs(self, event: Json, _now: float) -> Changes:
        self.log.left_out += max(number(event, "left_out"), 0)
        return frozenset(("logs",)) if self.log.add(map(LogLine.of, items(event, "logs"))) else NOTHING

    def _take_inbox(self, event: Json, _now: float) -> Changes:
        self._told_inbox = items_of(event)
        return frozenset(("inbox",))

    def _changed(self, event: Json, _now: float) -> Changes:
        what = text(event, "what")
        self.changed = {**self.changed, what: self.changed.get(what, 0) + 1}
        return frozenset(("answers",))

    def _note(self, event: Json, _now: float) -> Changes:
        self.notes.append(text(event, "text"))
        return frozenset(("notes",))

    def _bye(self, _event: Json, _now: float) -> Changes:
        return self._gone("it said good-bye", 0)

    def _played(self, event: Json, _now: float) -> Changes:
        at_s, length_s, speed = (measure(event, key) or 0.0 for key in ("at_s", "length_s", "speed"))
        before, self.played = self.played, Played(at_s, length_s, speed, event.get("is_held") is True)
        return NOTHING if self.played == before else frozenset(("connection",))

    def _rewound(self, _event: Json, _now: float) -> Changes:
        vars(self).update(vars(State()) | {"snapshots": self.snapshots})
        return EVERYTHING

    def _absent(self, event: Json, _now: float) -> Changes:
        return self._gone(text(event, "why"), number(event, "attempt"))

    def _gone(self, why: str, attempt: int) -> Changes:
        self.connection = Connection("absent", why, attempt)
        self.transfers.clear()
        self.under_way = ()
        return frozenset(("connection", "transfers"))

    def _alive(self, _event: Json, _now: float) -> Changes:
        return NOTHING


_FOLDS: dict[str, Callable[[State, Json, float], Changes]] = {
    "snapshot": State._snapshot,
    "status": State._status,
    "group": State._group,
    "peer": State._peer,
    "run": State._run,
    "metrics": State._metrics,
    "transfer": State._transfer,
    "transfers": State._under_way,
    "log": State._log,
    "logs": State._logs,
    "note": State._note,
    "changed": State._changed,
    "inbox": State._take_inbox,
    "bye": State._bye,
    "absent": State._absent,
    "played": State._played,
    "rewound": State._rewound,
    "alive": State._alive,
}
