"""When what is not kept for ever goes: the owner's rules, and once a day the removal of what none of them keeps.

Rows go a kind at a time, blobs one by one, so nobody waits long for anything. A blob goes only when no rule, no run and
no registered name needs it, when nobody has stored it or asked for it within the last hour, and after its runs were
asked once more. What is not known for sure to be garbage stays: where a run could not be taken up, or where the record
is younger than the blobs.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from node.record.kept_blobs import ModelLists, Sorting, blobs_of_runs, is_under_way, not_taken_up, sort_blobs
from node.run.known_run import KnownRun
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId, RunId
from tracker.blobs.stored import StoredBlob
from tracker.retention import DAY_S, ROW_KINDS, RULES_FILE, Rules, removable, remove, rules_in
from tracker.tables.rows import iso

if TYPE_CHECKING:
    from node.node import Node

log = logging.getLogger("fednode.node")

FIRST_AFTER_S = 600.0  # of a node's life: starting has enough to do
EVERY_S = DAY_S
# A clock that has moved on so far since the last line that this node logged may be wrong, as after a battery's end.
# What is too old is then judged after a day of uptime: by then somebody, or the network, has set it right.
ABSENCE_S = 30 * DAY_S
# A blob that was stored, or asked for, so recently may be about to be named by something: what takes longer between
# the two is held in `RunDriver.needs`.
UNUSED_S = 3600.0
# Where the room is used up, what was of use so lately still goes: minutes are enough to name what was stored.
URGENT_UNUSED_S = 300.0
MAKE_ROOM_AGAIN_S = 10.0  # a collection reads journals and the record: not for each of the many that want room at once
ASK_AGAIN_BLOBS = 20  # after so many the runs are asked anew what they need; each takes about a millisecond to delete

Json = dict[str, Any]


@dataclass(slots=True)
class Removed:
    """What went, or with `dry_run` would go."""

    rows: dict[str, int] = field(default_factory=dict)
    blobs: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    participants: int = 0
    recent: Counter[str] = field(default_factory=Counter)  # blobs and bytes that stay only since they are so new
    spared: str = ""  # why blobs were left alone, for people

    def told(self, *, dry_run: bool) -> Json:
        blobs = {kind: {"blobs": self.blobs[kind], "bytes": self.bytes[kind]} for kind in sorted(self.blobs)}
        return {
            "dry_run": dry_run,
            "rows": {kind: count for kind, count in self.rows.items() if count},
            "blobs": blobs,
            "bytes": self.bytes.total(),
            "participants": self.participants,
            "recent": {"blobs": self.recent["blobs"], "bytes": self.recent["bytes"]},
            "spared": self.spared,
        }

    def __str__(self) -> str:
        parts = [f"{count:,} rows of {kind}" for kind, count in self.rows.items() if count]
        parts += [f"{count} blobs of {kind} ({self.bytes[kind]:,} bytes)" for kind, count in self.blobs.items()]
        parts += [f"what participants kept of {self.participants} runs"] if self.participants else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Looked:
    """What lies on the disk. `garbage` may go, and `recent` not yet, since it was of use lately; `spared`: why other
    blobs, or all, were left alone, for people."""

    stored: list[StoredBlob]
    sorting: Sorting
    garbage: list[StoredBlob]
    spared: str
    recent: list[StoredBlob] = field(default_factory=list)


class Retention:
    """One node's. `load` it first; keep `run` running."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._lists = ModelLists(node.disk)
        self._busy = trio.Lock()
        self._forgotten: set[RunId] = set()
        self.rules = Rules()
        self._first_after_s = FIRST_AFTER_S
        self._made_room_at = -math.inf

    async def load(self) -> None:
        """Raises FednodeError when the file is damaged."""
        self.rules = rules_in(await self._node.disk.read(RULES_FILE))
        for newest in await self._node.record.query("newest_log"):
            absence_s = self._node.now() - datetime.fromisoformat(newest["time"]).timestamp()
            self._first_after_s = EVERY_S if absence_s > ABSENCE_S else FIRST_AFTER_S

    async def set(self, texts: dict[str, str]) -> None:
        """Change the rules of these kinds, durably. Raises Refused for what is none."""
        rules = self.rules.changed(texts)
        await self._node.disk.write(RULES_FILE, json.dumps(rules.texts(), indent=1).encode())
        self.rules = rules

    async def run(self) -> None:
        """Prune soon after the start, or after a day where the clock is in doubt, and once a day, until cancelled."""
        await trio.sleep(self._first_after_s)
        while True:
            try:
                removed = await self.prune()
                if str(removed):
                    log.info("retention removed %s", removed)
            except FednodeError as error:  # the disk, most likely: what is not removed today is tomorrow
                log.warning("retention could not remove everything: %s", error)
            except Exception:  # a supervisor: housekeeping never ends the node
                log.exception("retention failed")
            await trio.sleep(EVERY_S)

    async def prune(self, *, dry_run: bool = False) -> Removed:
        """Remove what no rule keeps; with `dry_run` only say what that is. Raises FednodeError."""
        async with self._busy:
            removed = Removed()
            await self._node.record.flush()
            await self._prune_rows(removed, dry_run)
            over = await self._long_over()
            await self._prune_blobs(removed, over, dry_run, UNUSED_S)
            await self._forget_participants(removed, over, dry_run)
            return removed

    async def _prune_rows(self, removed: Removed, dry_run: bool) -> None:
        going_on = [known.run_id for known in self._node.runs.known.values() if is_under_way(known)]
        for kind in ROW_KINDS:
            count = removable if dry_run else remove
            work = partial(count, name=kind, rule=getattr(self.rules, kind), now=self._node.now(), spared=going_on)
            removed.rows[kind] = await self._node.record.change(work)

    async def collect_blobs(self, *, dry_run: bool = False, unused_s: float = UNUSED_S) -> Removed:
        """Remove the blobs that nothing keeps, of those that were not of use for `unused_s`. Raises FednodeError."""
        async with self._busy:
            removed = Removed()
            await self._node.record.flush()
            await self._prune_blobs(removed, await self._long_over(), dry_run, unused_s)
            return removed

    async def make_room(self) -> int:
        """Remove what blobs can be spared, for one that finds no room. Gives the bytes that became free; 0 also where
        it was tried just now."""
        if trio.current_time() < self._made_room_at + MAKE_ROOM_AGAIN_S:
            return 0
        try:
            removed = await self.collect_blobs(unused_s=URGENT_UNUSED_S)
        except FednodeError as error:  # who wanted the room is told that there is none, which says more
            log.error("no room could be made for blobs: %s", error.what)
            return 0
        finally:
            self._made_room_at = trio.current_time()
        log.warning("the room for blobs is used up: %s", f"removed {removed}" if str(removed) else "nothing can go")
        return removed.bytes.total()

    async def _long_over(self) -> frozenset[RunId]:
        """The runs that ended longer ago than they are kept ready to go on."""
        days = self.rules.ended.days
        if days is None:
            return frozenset()
        before = iso(max(0.0, self._node.now() - days * DAY_S))
        ended = {row["run_id"] for row in await self._node.record.query("ended_runs") if row["ended_at"] < before}
        known = self._node.runs.known.values()
        return frozenset(run.run_id for run in known if run.run_id in ended and run.is_over)

    # --- blobs -----------------------------------------------------------------------------------------------------
    async def look(self, *, unused_s: float = UNUSED_S) -> Looked:
        """Mark what is kept: the rest is garbage, except what was of use within `unused_s`. Raises FednodeError."""
        known = self._node.runs.known
        stored = await self._node.disk.stored_blobs()
        if waiting := not_taken_up(known.values()):
            why = f"no blobs were looked at, since {waiting[0].name} could not be taken up here: see its log"
            return Looked(stored, Sorting(frozenset(), frozenset(), frozenset()), [], why)
        here = {entry.blob for entry in stored}
        sorting = await sort_blobs(known, self._lists, self._node.record, self.rules, here, self._node.now())
        known_since_s = await self._known_since_s()
        needed = blobs_of_runs(known.values(), await self._long_over())
        kept = sorting.kept | needed
        old = [entry for entry in stored if entry.unused_s >= unused_s and entry.blob not in kept]
        garbage = [e for e in old if sorting.kind_of(e) != "leftovers" or e.unused_s < known_since_s]
        doubtful = len(old) - len(garbage)
        why = f"{doubtful} blobs are older than this record, which may not know of them" if doubtful else ""
        recent = [e for e in stored if e.unused_s < unused_s and e.blob not in kept and not e.is_half]
        return Looked(stored, sorting, garbage, why, recent)

    async def _prune_blobs(self, removed: Removed, over: frozenset[RunId], dry_run: bool, unused_s: float) -> None:
        looked = await self.look(unused_s=unused_s)
        removed.spared = looked.spared
        removed.recent.update(blobs=len(looked.recent), bytes=sum(entry.bytes for entry in looked.recent))
        for start in range(0, len(looked.garbage), ASK_AGAIN_BLOBS):
            needed = self._needed_now(over)
            for entry in looked.garbage[start : start + ASK_AGAIN_BLOBS]:
                if entry.blob in needed:
                    continue
                freed = entry.bytes if dry_run else await self._node.disk.discard_blob(entry.blob, unused_s)
                if freed or not entry.bytes:
                    removed.blobs[looked.sorting.kind_of(entry)] += 1
                    removed.bytes[looked.sorting.kind_of(entry)] += freed

    def _needed_now(self, over: frozenset[RunId]) -> Set[str]:
        known = self._node.runs.known.values()
        return blobs_of_runs(known, over & {run.run_id for run in known if run.is_over})  # one may have been resumed

    async def _known_since_s(self) -> float:
        """For how long the record has known of all that was stored, in seconds."""
        marks = {row["name"]: row["time"] for row in await self._node.record.query("store_marks")}
        since = marks.get("whole_since")
        return self._node.now() - datetime.fromisoformat(since).timestamp() if since else float("inf")

    # --- participants ----------------------------------------------------------------------------------------------
    async def _forget_participants(self, removed: Removed, over: frozenset[RunId], dry_run: bool) -> None:
        """What our own part kept through a run is of no use once the run cannot go on."""
        for run_id in sorted(over - self._forgotten):
            known = self._node.runs.known.get(run_id)
            if known is not None and known.is_over:
                removed.participants += 1
                if not dry_run:
                    await self._node.trainer.forget(run_id)
                    self._forgotten.add(run_id)

    async def check_ready(self, known: KnownRun) -> None:
        """Raise Refused when a run that has ended cannot go on here, since what it needs for that was not kept."""
        ledger = known.ledger
        if ledger is None or known.driver is None or not ledger.has_ended:
            return
        self._forgotten.discard(known.run_id)
        newest = ledger.newest
        for blob in filter(None, (newest.tensor_schema, newest.model, newest.server_state)):
            if not await self._node.disk.has_blob(BlobId(blob)):
                raise Refused(
                    "not-kept",
                    f"What {known.name} needs to go on is not kept here any more (retention: ended={self.rules.ended})",
                    remedy="propose a new run with this one as its parent; fednode store retention says what is kept",
                )
