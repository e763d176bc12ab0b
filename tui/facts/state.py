"""What the dashboard knows: folds a feed's events into the newest facts and says what each event changed.

Pure: no Textual, no clock (the time is an argument), no waiting. Events are the lines of /v1/events (docs/api.md) and
one of a feed's own:

    {"type": "absent", "why", "attempt"}            the node does not answer; a feed goes on trying

An event of an unknown type changes nothing, so a newer node does no harm.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tui.facts.asks import Answers, Ask
from tui.facts.curves import Curves
from tui.facts.fields import Json, items, name_of, number, text
from tui.facts.nodes import Group, LogLine, Peer, Status, Transfer
from tui.facts.runs import Run

Topic = Literal["connection", "status", "groups", "peers", "runs", "metrics", "answers", "transfers", "logs", "notes"]
Changes = frozenset[Topic]

NOTHING: Changes = frozenset()
EVERYTHING: Changes = frozenset(
    ("connection", "status", "groups", "peers", "runs", "metrics", "answers", "transfers", "logs", "notes")
)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
LOG_LINES_MAX = 10_000  # what one scrolls through at most; the record has the rest
NOTES_MAX = 8  # more at once would cover the screen
TRANSFERS_MAX = 256  # two rounds of the 100 nodes that a drawing can still show
TRANSFER_SHOWN_S = 2.0  # long enough to follow a mark by eye, short enough to mean "now"


@dataclass(frozen=True, slots=True)
class Connection:
    """How we stand with the node. `attempt` counts tries since it was last heard."""

    state: Literal["connecting", "live", "absent"] = "connecting"
    why: str = ""
    attempt: int = 0


class State:
    """The newest facts. Read the attributes, change them by `apply` alone."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.status = Status()
        self.dropped = 0
        self.snapshots = 0  # how often everything was told anew; what was asked before the last one may be stale
        self.groups: dict[str, Group] = {}
        self.peers: dict[str, Peer] = {}
        self.curves: dict[str, Curves] = {}
        self.answers = Answers()  # to what views have asked
        self.names: dict[str, str] = {}  # every node's name by its id, as far as anybody told it
        self.logs: deque[LogLine] = deque(maxlen=LOG_LINES_MAX)
        self.logs_count = 0  # lines ever taken in; grows also when old ones fall out
        self.transfers: deque[Transfer] = deque(maxlen=TRANSFERS_MAX)
        self.notes: deque[str] = deque(maxlen=NOTES_MAX)  # what a person should know, until somebody shows it
        self._told_runs: dict[str, Json] = {}
        self._runs: dict[str, Run] = {}
        self._sorted: list[Run] | None = None

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

    def run(self, run_id: str) -> Run | None:
        """The run with this id, or None."""
        if run_id not in self._runs and run_id in self._told_runs:
            self._runs[run_id] = Run.of(self._told_runs[run_id])
        return self._runs.get(run_id)

    def take(self, ask: Ask, answer: Json) -> Changes:
        """Take the answer to a question in. Metrics and log lines join those that came as events."""
        match ask.parts:
            case ("runs", _, "metrics"):
                self._metrics(answer, 0.0)
                answer = {}
            case ("logs",):
                self._logs(answer, 0.0)
                answer = {}
        self.answers.take(ask, answer)
        return frozenset(("answers",))

    def moving(self, now: float) -> list[Transfer]:
        """The transfers recent enough to be shown on their way."""
        return [transfer for transfer in self.transfers if now - transfer.at < TRANSFER_SHOWN_S]

    def _heard(self, event: Json) -> Changes:
        if text(event, "type") in ("absent", "bye") or self.connection.state == "live":
            return NOTHING
        self.connection = Connection("live")
        return frozenset(("connection",))

    def _snapshot(self, event: Json, _now: float) -> Changes:
        self.status = Status.of(_object(event, "status"))
        self.groups = {group.group_id: group for group in map(Group.of, items(event, "groups"))}
        self.peers = {peer.node_id: peer for peer in map(Peer.of, items(event, "peers"))}
        self._told_runs = {text(run, "run_id"): run for run in items(event, "runs")}
        self._runs = {}
        self._sorted = None
        for run in self._told_runs.values():
            self._learn_names(run)
        self.names.update((peer.node_id, peer.name) for peer in self.peers.values())
        self.dropped = 0
        self.snapshots += 1
        return EVERYTHING

    def _status(self, event: Json, _now: float) -> Changes:
        self.status = Status.of(_object(event, "status"))
        return frozenset(("status",))

    def _group(self, event: Json, _now: float) -> Changes:
        group = Group.of(_object(event, "group"))
        self.groups[group.group_id] = group
        return frozenset(("groups",))

    def _peer(self, event: Json, _now: float) -> Changes:
        peer = Peer.of(_object(event, "peer"))
        self.peers[peer.node_id] = peer
        self.names[peer.node_id] = peer.name
        return frozenset(("peers",))

    def _run(self, event: Json, _now: float) -> Changes:
        told = _object(event, "run")
        run_id = text(told, "run_id")
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
        changed = [self.curves.setdefault(run_id, Curves()).add(metrics) for run_id, metrics in by_run.items()]
        return frozenset(("metrics",)) if any(changed) else NOTHING

    def _transfer(self, event: Json, now: float) -> Changes:
        self.transfers.append(Transfer.of(event, now))
        return frozenset(("transfers",))

    def _log(self, event: Json, _now: float) -> Changes:
        self.logs.append(LogLine.of(_object(event, "log")))
        self.logs_count += 1
        return frozenset(("logs",))

    def _logs(self, event: Json, _now: float) -> Changes:
        """Put earlier lines where they belong by time; those that came live already are passed over."""
        known = {line.key for line in self.logs}
        fresh = [line for line in map(LogLine.of, items(event, "logs")) if line.key not in known]
        if not fresh:
            return NOTHING
        merged = sorted([*self.logs, *fresh], key=lambda line: (line.time or LONG_AGO, line.seq))
        self.logs.clear()
        self.logs.extend(merged)
        self.logs_count += len(fresh)
        return frozenset(("logs",))

    def _note(self, event: Json, _now: float) -> Changes:
        self.notes.append(text(event, "text"))
        return frozenset(("notes",))

    def _dropped(self, event: Json, _now: float) -> Changes:
        self.dropped += max(number(event, "count"), 1)
        return frozenset(("connection",))

    def _bye(self, _event: Json, _now: float) -> Changes:
        return self._gone("it said good-bye", 0)

    def _absent(self, event: Json, _now: float) -> Changes:
        return self._gone(text(event, "why"), number(event, "attempt"))

    def _gone(self, why: str, attempt: int) -> Changes:
        self.connection = Connection("absent", why, attempt)
        self.transfers.clear()
        return frozenset(("connection", "transfers"))

    def _alive(self, _event: Json, _now: float) -> Changes:
        return NOTHING


def _object(event: Json, key: str) -> Mapping[str, Any]:
    value = event.get(key)
    return value if isinstance(value, Mapping) else {}


_FOLDS: dict[str, Callable[[State, Json, float], Changes]] = {
    "snapshot": State._snapshot,
    "status": State._status,
    "group": State._group,
    "peer": State._peer,
    "run": State._run,
    "metrics": State._metrics,
    "transfer": State._transfer,
    "log": State._log,
    "note": State._note,
    "dropped": State._dropped,
    "bye": State._bye,
    "absent": State._absent,
    "alive": State._alive,
}
