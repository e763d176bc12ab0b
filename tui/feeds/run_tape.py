"""Makes a tape of a finished run out of the record of a node, or of a store: what was told, at the times it happened.

The record is read once. What a view asks while the tape is played is answered from these rows, or by the record where
it has more, in both cases without the rows of later times.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from fednode import ClientError
from tui.facts.asks import Ask, asking
from tui.facts.fields import Json, items, moment, number, text
from tui.feeds.feed import FeedError
from tui.feeds.tape import Moment, Tape

Answerer = Callable[[Ask], Awaitable[Json]]

PAGE_ROWS = 10_000  # what the local API gives at once
ROWS_MAX = 400_000  # of one kind; as many points as the dashboard keeps of one run
AFTER_THE_END_S = 10.0  # the last words about a run; what is told later, such as by a node's restart, is another story
METRICS_TOGETHER_S = 0.2  # figures that came within it are one event, as a node sends them
# Of each kind of row: by which filter the API is asked for those after which of the last row's columns, and where that
# begins.
CURSORS = {
    "rounds": ("after_round", "round", -1),
    "metrics": ("after_round", "round", -1),
    "spans": ("after_round", "round", -1),
    "states": ("after", "position", -1),
    "logs": ("after", "seq", 0),
}
TIMES = ("committed_at", "time", "started_at", "at")  # by which a row of an answer is known to have happened
NOT_YET: dict[str, Any] = {  # of a run when it was proposed
    **dict.fromkeys(("reason", "note", "aggregator", "aggregator_name", "decision"), ""),
    **dict.fromkeys(("round", "term", "elections", "bytes_sent", "bytes_received", "measured_by", "measured_of"), 0),
    **dict.fromkeys(("started_at", "ended_at", "accuracy", "loss")),
    "state": "PROPOSED",
    "deposed": [],
}


class NoSuchRun(ClientError):
    """The record has no such run, or more than one."""

    code = "no-such-run"


class RunPast:
    """A run's rows by kind, and the record itself for what they do not tell."""

    def __init__(
        self, run_id: str, began: datetime, rows: Mapping[str, list[Json]], tape: Tape, record: Answerer
    ) -> None:
        self._run_id = run_id
        self._began = began
        self._rows = rows
        self._record = record
        self._runs = [(each.at, each.event["run"]) for each in tape.moments if each.event["type"] == "run"]
        self._proposed: Json = tape.moments[0].event["runs"][0]

    async def ask(self, ask: Ask, until_s: float) -> Json:
        """What was so `until_s` seconds after the run was proposed. Raises FeedError."""
        filters = dict(ask.filters)
        kind = ask.parts[-1]
        ours = ask.parts in (("runs", self._run_id, kind), ("logs",))
        if ours and kind in self._rows:
            rows = [row for row in self._rows[kind] if self._is_past(row, until_s) and _fits(row, filters)]
            return {kind: rows[-int(filters.get("limit") or len(rows) or 1) :]}
        if ask.parts == ("runs",):
            return {"runs": [self._run(until_s)], "total": 1}
        if self._run_id not in ask.parts:
            raise FeedError("a replay tells about its run alone – open the node itself with fednode tui")
        answer = await self._record(ask)
        if ask.parts == ("runs", self._run_id):
            return {**answer, **self._run(until_s)}
        return {key: self._until(value, until_s) for key, value in answer.items()}

    def _run(self, until_s: float) -> Json:
        """The run as it was then."""
        past = bisect_right(self._runs, until_s, key=lambda each: each[0])
        return self._runs[past - 1][1] if past else self._proposed

    def _until(self, value: Any, until_s: float) -> Any:
        if isinstance(value, list):
            return [row for row in value if not isinstance(row, Mapping) or self._is_past(row, until_s)]
        return value

    def _is_past(self, row: Json, until_s: float) -> bool:
        when = next((found for key in TIMES if (found := moment(row, key)) is not None), None)
        return when is None or (when - self._began).total_seconds() <= until_s


def _fits(row: Json, filters: Mapping[str, Any]) -> bool:
    """The row is among those that these filters of the local API ask for. Levels are the reader's own matter."""
    wanted = {"node": "node_id", "key": "key", "scope": "scope", "split": "split"}
    after, before = filters.get("after_round"), filters.get("before_round")
    return (
        all(row.get(column) == filters[name] for name, column in wanted.items() if name in filters)
        and (after is None or number(row, "round") > after)
        and (before is None or number(row, "round") < before)
    )


async def tape_of_run(wanted: str, snapshot: Json, record: Answerer) -> tuple[Tape, RunPast]:
    """A run's tape and its answers.

    Args:
        wanted: the run's name, its id, or the beginning of its id.
        snapshot: the first event of the record's feed.

    Raises:
        NoSuchRun, FeedError: from the record.
    """
    run = _run_called(wanted, items(snapshot, "runs"))
    run_id = text(run, "run_id")
    began = moment(run, "created_at") or moment(run, "started_at")
    if began is None:
        raise NoSuchRun(f"Nobody knows when run {wanted} began", remedy="only runs with times can be played")
    rows = {kind: await _rows_of(record, run_id, kind) for kind in CURSORS}
    told = sorted(_moments(run, began, rows), key=lambda each: each.at)
    if ended := moment(run, "ended_at"):
        last = (ended - began).total_seconds() + AFTER_THE_END_S
        told = [each for each in told if each.at <= last]
    first = Moment(0.0, _first(run, snapshot))
    tape = Tape(text(run, "name"), [first, *told], max((each.at for each in told), default=0.0))
    return tape, RunPast(run_id, began, rows, tape, record)


def _run_called(wanted: str, runs: list[Json]) -> Json:
    found = [run for run in runs if wanted in (text(run, "run_id"), text(run, "name"))]
    found = found or [run for run in runs if wanted and text(run, "run_id").startswith(wanted)]
    if not found:
        raise NoSuchRun(f"The record has no run {wanted}", remedy="fednode run list names them")
    if len(found) > 1 and len({text(run, "run_id") for run in found}) > 1:
        ids = ", ".join(text(run, "run_id")[:12] for run in found[:5])
        raise NoSuchRun(f"{len(found)} runs are called {wanted}", remedy=f"name one by its id: {ids}")
    return found[0]


async def _rows_of(record: Answerer, run_id: str, kind: str) -> list[Json]:
    """All rows of a kind, page by page as the API gives them, or as many as are kept."""
    rows: list[Json] = []
    name, key, after = CURSORS[kind]
    while len(rows) < ROWS_MAX:
        answer = await record(asking("runs", run_id, kind, limit=PAGE_ROWS, **{name: after}))
        page = items(answer, kind)
        rows += page
        if len(page) < PAGE_ROWS:
            break
        after = number(page[-1], key)
    return rows


def _first(run: Json, snapshot: Json) -> Json:
    """How things were when the run was proposed."""
    parts = [
        {**part, "state": "INVITED", "reason": "", "round": 0, "samples": 0, "voter": False}
        for part in items(run, "participants")
    ]
    ids = {part["node_id"] for part in parts}
    peers = [peer for peer in items(snapshot, "peers") if peer.get("node_id") in ids]
    status = {"name": text(run, "name"), "is_record": True}
    return {
        "type": "snapshot",
        "status": status,
        "groups": [],
        "peers": peers,
        "runs": [{**run, **NOT_YET, "participants": parts}],
    }


def _moments(run: Json, began: datetime, rows: Mapping[str, list[Json]]) -> Iterable[Moment]:
    def at(row: Json, key: str) -> float:
        when = moment(row, key)
        return 0.0 if when is None else max((when - began).total_seconds(), 0.0)

    yield from _changes(run, rows, at)
    yield from _figures(rows["metrics"], at)
    for line in rows["logs"]:
        yield Moment(at(line, "time"), {"type": "log", "log": line})
    aggregators = {number(each, "round"): text(each, "aggregator") for each in rows["rounds"]}
    for span in rows["spans"]:
        if transfer := _transfer(span, aggregators):
            yield Moment(at(span, "started_at"), transfer)


def _changes(run: Json, rows: Mapping[str, list[Json]], at: Callable[[Json, str], float]) -> Iterable[Moment]:
    """The run as a whole, whenever it or one of its participants changed."""
    steps = [(at(row, "time"), 0, row) for row in rows["states"]]
    steps += [(at(row, "committed_at"), 1, row) for row in rows["rounds"]]
    means = {(number(row, "round"), text(row, "key")): row.get("value") for row in _of_the_whole(rows["metrics"])}
    now: dict[str, Any] = {**run, **NOT_YET}
    parts = {
        text(part, "node_id"): {**part, "state": "INVITED", "reason": "", "round": 0}
        for part in items(run, "participants")
    }
    for when, is_round, row in sorted(steps, key=lambda step: step[:2]):
        if is_round:
            _commit(now, row, means, parts)
        else:
            _enter(now, row, parts)
        yield Moment(when, {"type": "run", "run": {**now, "participants": [dict(part) for part in parts.values()]}})
    last = {**run, "note": ""}
    yield Moment(
        at(run, "ended_at") if run.get("ended_at") else max((step[0] for step in steps), default=0.0),
        {"type": "run", "run": last},
    )


def _enter(now: dict[str, Any], row: Json, parts: Mapping[str, dict[str, Any]]) -> None:
    changed = {"state": text(row, "state"), "reason": text(row, "reason"), "round": number(row, "round")}
    node = text(row, "node_id")
    if node:
        parts.get(node, {}).update(changed)
        return
    now.update(changed, round=max(now["round"], changed["round"]))
    if changed["state"] == "RUNNING" and now["started_at"] is None:
        now["started_at"] = row.get("time")


def _commit(
    now: dict[str, Any], row: Json, means: Mapping[tuple[int, str], Any], parts: Mapping[str, Mapping[str, Any]]
) -> None:
    at, term, aggregator = number(row, "round"), number(row, "term"), text(row, "aggregator")
    now["elections"] += term != now["term"]
    now.update(round=at, term=term, aggregator=aggregator)
    now["aggregator_name"] = parts.get(aggregator, {}).get("name", "")
    for key in ("accuracy", "loss"):
        now[key] = means.get((at, key), now[key])


def _of_the_whole(metrics: Iterable[Json]) -> Iterable[Json]:
    return (row for row in metrics if not row.get("node_id") and row.get("scope") == "global")


def _figures(metrics: Iterable[Json], at: Callable[[Json, str], float]) -> Iterable[Moment]:
    """Figures in the order of their times, those of about one time as one event."""
    together: dict[int, list[Json]] = {}
    for row in metrics:
        together.setdefault(int(at(row, "time") / METRICS_TOGETHER_S), []).append(row)
    for step, rows in together.items():
        yield Moment((step + 1) * METRICS_TOGETHER_S, {"type": "metrics", "metrics": rows})


def _transfer(span: Json, aggregators: Mapping[int, str]) -> Json | None:
    """What went from node to node in this span, or nothing."""
    kind = {"upload": "update", "fetch": "checkpoint"}.get(text(span, "name"))
    node, at = text(span, "node_id"), number(span, "round")
    other = text(span, "peer") or aggregators.get(at, "")
    if kind is None or not other or other == node:
        return None
    way = {"from": node, "to": other} if kind == "update" else {"from": other, "to": node}
    return {
        "type": "transfer",
        "run_id": text(span, "run_id"),
        "kind": kind,
        "bytes": span.get("bytes", 0),
        "round": at,
        **way,
    }
