"""How long what is recorded stays: the rules as people write them, and the removal of rows that no rule keeps.

Facts (runs, rounds, states, models' names, evaluations) stay for ever: they are small, and everything else refers to
them. What grows is bounded: log lines, spans, system metrics, and the figures that a task tells within a round; a
round's own figures stay. Of each source the newest row is never removed, for its number says what is a replay.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from protocol.errors import FednodeError, Refused
from tracker.tables.rows import utc

DAYS_MAX = 36_500  # a century; longer is for ever
ROWS_MAX = 10**12
ROUNDS_MAX = 10_000_000
DAY_S = 86_400.0
FOREVER = "forever"
RULES_FILE = "retention.json"  # in a node's home


@dataclass(frozen=True, slots=True)
class Kept:
    """None older than `days`, and the newest `rows` at most; None: no bound."""

    days: int | None = None
    rows: int | None = None

    def __str__(self) -> str:
        bounds = [f"{self.days}d"] if self.days is not None else []
        bounds += [f"{self.rows}rows"] if self.rows is not None else []
        return ",".join(bounds) or FOREVER


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Of each run: the newest always, the first, the `last` newest rounds, each `every`-th (0: none), the best. What a
    run under way has made stays, unless `running`."""

    everything: bool = False
    first: bool = False
    last: int = 1
    every: int = 0
    best: bool = False
    running: bool = False

    def __str__(self) -> str:
        if self.everything:
            return "all"
        parts = ["first"] if self.first else []
        parts += [f"last={self.last}"] + ([f"every={self.every}"] if self.every else [])
        return ",".join(parts + [word for word in ("best", "running") if getattr(self, word)])

    def kept(self, rounds: Iterable[int], best: int | None) -> set[int]:
        """Which of a run's rounds that have checkpoints keep theirs."""
        known = sorted(set(rounds))
        if self.everything or not known:
            return set(known)
        kept = set(known[-self.last :])
        if self.first:
            kept.add(known[0])
        if self.every:
            kept.update(number for number in known if number % self.every == 0)
        if self.best and best in known:
            kept.add(best)
        return kept


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept of each kind. `ended`: how long what a run needs to go on stays after its end."""

    logs: Kept = field(default_factory=lambda: Kept(days=90))
    system_metrics: Kept = field(default_factory=lambda: Kept(days=30))
    spans: Kept = field(default_factory=lambda: Kept(days=365))
    metrics: Kept = field(default_factory=lambda: Kept(days=365))
    artifacts: Kept = field(default_factory=Kept)
    checkpoints: Checkpoints = field(default_factory=lambda: Checkpoints(first=True, last=3, every=10, best=True))
    ended: Kept = field(default_factory=lambda: Kept(days=90))

    def texts(self) -> dict[str, str]:
        return {kind: str(getattr(self, kind)) for kind in MEANINGS}

    def changed(self, texts: Mapping[str, str]) -> "Rules":
        """With these kinds' rules instead. Raises Refused, which names what is wrong."""
        found = {}
        for kind, text in texts.items():
            if kind not in MEANINGS:
                known = ", ".join(MEANINGS)
                raise Refused("bad-retention", f"There is no kind {kind[:40]!r} to keep", remedy=f"use one of {known}")
            found[kind] = _checkpoints(text) if kind == "checkpoints" else _kept(kind, text)
        return replace(self, **found)  # type: ignore[arg-type]


def rules_in(raw: bytes | None) -> Rules:
    """What a node's file of rules says; the defaults without one. Raises FednodeError when it is damaged."""
    try:
        return Rules().changed(json.loads(raw)) if raw is not None else Rules()
    except (ValueError, TypeError, AttributeError, Refused) as error:
        raise FednodeError(
            f"{RULES_FILE} in the node's home is damaged ({error})",
            remedy="delete it, which brings back what is kept by default, and set it anew: fednode store retention",
        ) from error


MEANINGS = {
    "logs": "log lines",
    "system_metrics": "how busy machines and workers were",
    "spans": "what rounds' time went into",
    "metrics": "figures that tasks tell within a round; those of whole rounds stay for ever",
    "artifacts": "files that tasks kept; what they were stays on record",
    "checkpoints": "models of the rounds",
    "ended": "after a run's end, what it needs to be resumed or extended here",
}
_WITH_ROWS = ("logs", "system_metrics", "spans", "metrics")


def _kept(kind: str, text: str) -> Kept:
    """`forever`, `30d`, `500000rows`, or both with a comma between."""
    words = [word.strip().lower() for word in text.split(",")]
    if words == [FOREVER]:
        return Kept()
    found: dict[str, int] = {}
    for word in words:
        match = re.fullmatch(r"([0-9]{1,12})\s*(d|days|rows)", word)
        unit = "" if match is None else "rows" if match[2] == "rows" else "days"
        if match is None or unit in found or (unit == "rows" and kind not in _WITH_ROWS):
            raise _no_rule(kind, text)
        found[unit] = int(match[1])
    if not 1 <= found.get("days", 1) <= DAYS_MAX or not 1 <= found.get("rows", 1) <= ROWS_MAX:
        raise _no_rule(kind, text)
    return Kept(**found)


def _checkpoints(text: str) -> Checkpoints:
    """`all`, or any of `first`, `last=N`, `every=K`, `best` and `running`, with commas between."""
    words = [word.strip().lower() for word in text.split(",")]
    if words == ["all"]:
        return Checkpoints(everything=True)
    found: dict[str, Any] = {}
    for word in words:
        key, _, number = word.partition("=")
        if key in found:
            raise _no_rule("checkpoints", text)
        if key in ("last", "every") and re.fullmatch(r"\d{1,8}", number) and 1 <= int(number) <= ROUNDS_MAX:
            found[key] = int(number)
        elif word in ("first", "best", "running"):
            found[word] = True
        else:
            raise _no_rule("checkpoints", text)
    return Checkpoints(**found)


def _no_rule(kind: str, text: str) -> Refused:
    if kind == "checkpoints":
        remedy = (
            "write all, or some of first,last=N,every=K,best; the newest of each run always stays, and while a run goes"
            " on all do, unless you add running"
        )
    else:
        rows = ", a number of rows such as 500000rows, or both with a comma" if kind in _WITH_ROWS else ""
        remedy = f"write {FOREVER}, a number of days such as 30d{rows}"
    return Refused("bad-retention", f"{kind}={text[:80]} says nothing that could be kept to", remedy=remedy)


# --- rows ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Kind:
    """Rows that grow: where, which column says when, and of which rows the rule speaks."""

    time: str
    source: str
    which: str = "true"


_KINDS = {
    "logs": _Kind("time", "node_id"),
    "system_metrics": _Kind("time", "source_node, run_id"),
    "spans": _Kind("started_at", "source_node, run_id"),
    "metrics": _Kind("time", "source_node, run_id", "(step > 0 OR epoch > 0)"),
}
ROW_KINDS = tuple(_KINDS)


def was_removed(table: str, row: Any, removed: Mapping[str, datetime]) -> bool:
    """Whether an event that is not stored would only be removed again. `removed`: before when, by table."""
    before, kind = removed.get(table), _KINDS.get(table)
    if before is None or kind is None or (table == "metrics" and not (row.step or row.epoch)):
        return False
    return utc(getattr(row, kind.time)) < before


def removable(connection: Any, name: str, rule: Kept, now: float, spared: Iterable[str]) -> int:
    """How many rows of a kind no rule keeps. `spared`: runs that are left alone."""
    before = _before(connection, name, rule, now)
    if before is None:
        return 0
    (count,) = connection.execute(f"SELECT count(*) FROM {name} WHERE {_over(name)}", [before, list(spared)]).fetchone()
    return int(count)


def remove(connection: Any, name: str, rule: Kept, now: float, spared: Iterable[str]) -> int:
    """Remove them, in the transaction that is open. Gives how many they were.

    What is as old as the newest of them does not come in again. What is younger does, though it be older than the rule
    allows: the clock by which that was judged may have been ahead."""
    before = _before(connection, name, rule, now)
    if before is None:
        return 0
    over = [before, list(spared)]
    (mark,) = connection.execute(
        f"SELECT max({_KINDS[name].time}) + INTERVAL 1 MICROSECOND FROM {name} WHERE {_over(name)}", over
    ).fetchone()
    (count,) = connection.execute(f"DELETE FROM {name} WHERE {_over(name)}", over).fetchone()
    if count:
        connection.execute("INSERT OR REPLACE INTO store_marks VALUES (?, ?)", [f"removed {name}", mark])
    return int(count)


def age_limit(name: str, rule: Kept, now: float) -> tuple[str, datetime] | None:
    """Which rows of a kind are too old to be kept, as a condition with one place; None: none are."""
    kind = _KINDS[name]
    if rule.days is None:
        return None
    return f"{kind.time} < ? AND {kind.which}", utc(max(0.0, now - rule.days * DAY_S))


def _before(connection: Any, name: str, rule: Kept, now: float) -> datetime | None:
    kind = _KINDS[name]
    bounds = [] if rule.days is None else [utc(max(0.0, now - rule.days * DAY_S))]
    if rule.rows is not None:
        newest = f"SELECT {kind.time} AS moment FROM {name} WHERE {kind.which} ORDER BY moment DESC LIMIT ?"
        count, oldest = connection.execute(f"SELECT count(*), min(moment) FROM ({newest})", [rule.rows]).fetchone()
        bounds += [oldest] if count == rule.rows else []
    return max(bounds, default=None)


def _over(name: str) -> str:
    kind = _KINDS[name]
    return (
        f"{kind.time} < ? AND {kind.which} AND run_id NOT IN (SELECT unnest(?::VARCHAR[]))"
        f" AND ({kind.source}, sequence) NOT IN (SELECT ({kind.source}, max(sequence)) FROM {name}"
        f" GROUP BY {kind.source})"
    )
