"""The rounds that a node has missed: asked of the others, believed by their chain, kept, and recorded like any others.

docs/protocol.md §9. What the journal has and the record lacks, as after a crash, is recorded from there first. Then the
nodes of the run are asked, one after another, until nothing is missing or nobody has it any more. What they tell goes
into the journal before it is recorded, so that this node can tell it in turn.
"""

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import trio

from node.run.chronicle import Chronicle
from node.run.past import Place, RunPast
from node.run.recorded_rounds import RecordedRound, recorded_rounds
from node.seams import Record
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import Hash, NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.checkpoint import Checkpoint, open_checkpoint
from protocol.run.events import Committed, Measured
from protocol.run.history import HistoryAnswer, HistoryEntry, Past, believed, by_subject
from protocol.run.ledger import Ledger
from protocol.run.voters import lot
from protocol.wire import unpack

log = logging.getLogger("fednode.run")

FILL_AFTER_S = 1.0  # what is on its way, such as a run's last reports, comes by itself
RETRY_FIRST_S = 5.0  # doubling from here, while those who may have it are not reached …
RETRY_MAX_S = 600.0  # … to here: a laptop comes back in the morning
ASKED_MAX = 8  # in a row; the next come after the wait
# What a node says that answers, and cannot help.
HAS_NOT = frozenset({"no-such-run", "unknown-checkpoint", "unknown-question"})

Ask = Callable[[NodeId, Hash], AsyncGenerator[bytes, None]]
End = Literal["not yet", "open", "closed"]
Goal = Literal["round", "end", "second word"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What this node knows of the run: the newest committed checkpoint, whether the run is over with it (and closed by
    the last reports), the starting one's name, and who may be asked."""

    newest: Hash
    checkpoint: Checkpoint
    end: End
    zero: Hash
    sources: Collection[NodeId]


class RunHistory:
    """One run's history on this node.

    Args:
        past: what the journal has of it.
        began_s: when the run was proposed, in seconds since 1970: nothing of it was committed before.
        ask: gives the frames of a node's answer, from a checkpoint downwards.
        standing: None before the first commit.
        connected: the nodes that are reached without dialling.
        spawn: runs an async function in the background.
    """

    def __init__(
        self,
        me: NodeId,
        past: RunPast,
        *,
        record: Record,
        chronicle: Chronicle,
        began_s: float,
        now: Callable[[], float],
        ask: Ask,
        standing: Callable[[], Standing | None],
        connected: Callable[[], Collection[NodeId]],
        spawn: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self.past = past
        self._me = me
        self._record = record
        self._chronicle = chronicle
        self._began_s = began_s
        self._now = now
        self._ask = ask
        self._standing = standing
        self._connected = connected
        self._spawn = spawn
        self._is_filling = False
        self._wanted = trio.Event()
        self._retell_from = math.inf  # reports of this round and later may have been lost with the record's last rows
        self._fresh: set[Hash] = set()  # told by others, and not recorded yet
        self._untimed: set[Hash] = set()  # recorded without knowing when they were committed
        self.lost: set[Hash] = set()  # which nobody has any more
        self.news = trio.Event()  # set, and replaced, when something was told, or everybody asked
        self._poor: dict[Hash, NodeId] = {}  # told with fewer reports than there may be, and by whom
        self._liars: set[NodeId] = set()
        self._sought: tuple[Goal, Hash] = ("round", Hash(""))
        self._useless: set[NodeId] = set()  # who has answered that they do not have what is sought
        self._tried: dict[NodeId, int] = {}  # when each was asked last, by count

    async def recorded(self) -> dict[int, RecordedRound]:
        """The rounds that the record has."""
        return await recorded_rounds(self._record, self._chronicle.run)

    async def resume(self, ledger: Ledger) -> None:
        """After a restart, before the run is driven: where does the record end, and does it lack anything?"""
        newest = ledger.committed_round
        if newest < 1:
            return
        rounds = await self.recorded()
        last = max(rounds, default=0)
        if rounds:
            self._chronicle.resume(last, rounds[last].committed_at)
        is_whole = all(number in rounds for number in range(1, newest + 1))
        if not (is_whole and ledger.has_ended and ledger.last_reports is not None):
            self._retell_from = last
            self.look_back()

    def look_back(self) -> None:
        """Something of the past may be missing: see to it. Never blocks."""
        self._wanted.set()
        if not self._is_filling:
            self._is_filling = True
            self._spawn(self._fill_until_whole)

    def look_for_end(self) -> None:
        """The run is over: look back unless its last reports came, after which nothing does."""
        standing = self._standing()
        if standing is not None and standing.end == "open":
            self.look_back()

    async def _fill_until_whole(self) -> None:
        """One run's trouble with its past ends neither the node nor the run."""
        wait_s, retry_s = FILL_AFTER_S, RETRY_FIRST_S
        try:
            while self._wanted.is_set():
                await trio.sleep(wait_s)
                self._wanted = trio.Event()
                is_done = await self._fill()
                self._tell_news()
                if is_done:
                    wait_s, retry_s = FILL_AFTER_S, RETRY_FIRST_S
                    continue
                with trio.move_on_after(retry_s):
                    await self._wanted.wait()
                self._wanted.set()
                wait_s, retry_s = 0.0, min(2 * retry_s, RETRY_MAX_S)
        except Exception:  # an error of ours: figures for people are not worth a node
            log.exception("run %s: its past could not be filled in", self._chronicle.run[:8])
        finally:
            self._is_filling = False

    async def _fill(self) -> bool:
        """Record what is here, ask for what is not, and record that. Whether no more is to be had."""
        standing = self._standing()
        if standing is None:
            return True
        try:
            await self.past.refresh()
            await self._tell()
            is_done = True
            for step in (self._complete, self._ask_again):
                is_done = is_done and await step(standing)
                if self._fresh:
                    await self._tell()
        except FednodeError as error:  # the disk, most likely
            log.warning("run %s: its past is filled in later: %s", self._chronicle.run[:8], error)
            return False
        return is_done

    # --- recording -----------------------------------------------------------------------------------------------
    async def _tell(self) -> None:
        """Record what the journal has and the record lacks, from the oldest on: times between commits follow."""
        await self._record.flush()
        rounds = await self.recorded()
        places = sorted(self.past.places.items(), key=lambda item: item[1].round)
        latest = self._latest(places, rounds)
        newest: RecordedRound | None = None  # of those below
        for name, place in places:
            row, before = rounds.get(place.round), rounds.get(place.round - 1)
            newest = before or newest
            is_row_whole = row is not None and (row.seconds > 0 or before is None)
            if is_row_whole and place.round < self._retell_from and name not in self._fresh:
                continue
            entry = await self.past.entry(name)
            checkpoint = open_checkpoint(entry.checkpoint).body
            earliest = newest.committed_at if newest else self._began_s
            told = self._as_recorded(name, entry, row, before, (earliest, latest[name]))
            if checkpoint.updates and not is_row_whole and told != row:
                event = Committed(name, checkpoint, checkpoint.made_in_term)
                self._chronicle.committed_earlier(event, told.committed_at, told.seconds, told.bytes)
            if entry.reports:
                self._chronicle.measured(Measured(entry.reports), told.committed_at)
            rounds[place.round] = newest = told
            await trio.lowlevel.checkpoint()  # each checks a round's signatures
        self._retell_from = math.inf
        self._fresh.clear()

    def _latest(self, places: list[tuple[Hash, Place]], rounds: Mapping[int, RecordedRound]) -> dict[Hash, float]:
        """Until when each may have been committed: the next above it whose time is known here was not before it."""
        latest: dict[Hash, float] = {}
        until = self._now()
        for name, place in reversed(places):
            latest[name] = until
            row = rounds.get(place.round)
            if row is not None and name not in self._untimed:
                until = min(until, row.committed_at)
        return latest

    def _as_recorded(
        self,
        name: Hash,
        entry: HistoryEntry,
        row: RecordedRound | None,
        before: RecordedRound | None,
        between: tuple[float, float],
    ) -> RecordedRound:
        """When a round was committed: as this node saw it, else as it was told, else it is not known, and the round
        before it was the last that is. What was told lies `between` what is known of the rounds around it."""
        earliest, latest = between
        if row is not None and name not in self._untimed:
            at = row.committed_at
        else:
            at = max(earliest, min(entry.committed_at or (earliest if before else latest), latest))
            (self._untimed.discard if entry.committed_at else self._untimed.add)(name)
        at = min(at, self._now())
        seconds = max(0.0, at - before.committed_at) if before else min(entry.seconds, max(0.0, at - self._began_s))
        return RecordedRound(at, seconds, row.bytes if row else 0)

    # --- asking --------------------------------------------------------------------------------------------------
    async def _complete(self, standing: Standing) -> bool:
        """Walk down the chain, and ask for what is missing on the way. Whether no more is to be had."""
        above: Place | None = None
        above_name = name = standing.newest
        while name != standing.zero and name not in self.lost:
            place = self.past.places.get(name)
            if place is None:
                # Who has missed a round took the next one without the reports that came with it.
                is_poor = above is not None and not above.has_reports
                found = await self._ask_around(standing, above_name if is_poor else name, sought=name)
                if found is None:
                    return False
                if not found:
                    self._give_up(name, above)
                continue
            if (
                above is None
                and standing.end == "open"
                and not place.is_closed
                and not await self._seek_end(standing, name)
            ):
                return False
            above, above_name, name = place, name, place.previous
        return True

    async def _seek_end(self, standing: Standing, name: Hash) -> bool:
        """Ask for the last reports, which come with no commit. Whether no more is to be had."""
        if await self._ask_around(standing, name, sought=name, goal="end") is None:
            return False
        await self.past.close_reports()
        return True

    async def _ask_again(self, standing: Standing) -> bool:
        """Have a second node's word on what came with fewer reports than there may be: the first may have withheld
        some, and of two all are taken. Whether no more is to be had."""
        self._poor = {name: node for name, node in self._poor.items() if name in self.past.places}
        while self._poor:
            name = max(self._poor, key=lambda each: self.past.places[each].round)
            found = await self._ask_around(standing, name, sought=name, goal="second word")
            if found is None:
                return False
            if not found:
                self._poor.clear()
        return True

    def _give_up(self, name: Hash, above: Place | None) -> None:
        self.lost.add(name)
        upto = f" before round {above.round}" if above is not None else ""
        self._chronicle.log(
            "WARNING", "fednode.run", f"rounds{upto} are missing here, and no node of the run has them any more"
        )

    async def _ask_around(self, standing: Standing, start: Hash, *, sought: Hash, goal: Goal = "round") -> bool | None:
        """Ask one node after another for what is at and below `start`, until it brings `sought` (with the reports after
        it, for the end). False: nobody has it. None: those who may have it were not reached."""
        if (goal, sought) != self._sought:
            self._sought = (goal, sought)
            self._useless = {self._poor[sought]} if goal == "second word" else set()
        down_to = math.inf
        if goal == "second word":
            down_to = min(self.past.places[name].round for name in self._poor)
        candidates = [node for node in standing.sources if node not in self._useless | self._liars]
        near = self._connected()
        candidates.sort(key=lambda node: (self._tried.get(node, 0), node not in near, lot(node, self._me)))
        for node in candidates[:ASKED_MAX]:
            self._tried[node] = self._tried.get(node, 0) + 1
            try:
                brought_end = await self._ask_one(node, start, standing, down_to)
            except RemoteProtocolError as error:
                self._liars.add(node)
                self._chronicle.log("WARNING", "fednode.run", f"{node} tells a false history: {error.what}")
                brought_end = False
            except FednodeError as error:
                if isinstance(error, Refused) and error.code in HAS_NOT:
                    self._useless.add(node)
                continue
            is_here = {"round": sought in self.past.places, "end": brought_end, "second word": sought not in self._poor}
            if is_here[goal]:
                return True
            self._useless.add(node)
        return None if any(node not in self._useless | self._liars for node in candidates) else False

    async def _ask_one(self, node: NodeId, start: Hash, standing: Standing, down_to: float) -> bool:
        """Take in what one node has, down to what is known here below the round `down_to`. Whether reports about the
        newest checkpoint came.

        Raises FednodeError: it was not reached, it does not have `start` (Refused), or it lies (RemoteProtocolError).
        """
        name, brought_end = start, False
        async with aclosing(self._ask(node, start)) as frames:
            async for frame in frames:
                answer: HistoryAnswer = unpack(HistoryAnswer, frame, FRAME_BYTES_MAX)
                new: list[tuple[Hash, HistoryEntry]] = []
                try:
                    for past in believed(answer.entries, name):
                        is_last = past.name == standing.newest and standing.end != "not yet"
                        brought_end |= is_last and _nodes_told(past, past.checkpoint.round) > 0
                        self._weigh(past, node, is_last)
                        news = await self._news_of(past)
                        if news is not None:
                            new.append((past.name, news))
                        name = Hash(past.checkpoint.previous)
                        await trio.lowlevel.checkpoint()  # each checks a round's signatures
                finally:
                    await self._keep(new)
                if name == standing.zero or self._is_known_below(name, down_to):
                    break
        return brought_end

    def _is_known_below(self, name: Hash, down_to: float) -> bool:
        place = self.past.places.get(name)
        return place is not None and place.round < down_to and name not in self._untimed

    def _weigh(self, past: Past, node: NodeId, is_last: bool) -> None:
        """Has everybody's report come with it? If not, one more node is asked, once."""
        if past.name in self._poor:
            if self._poor[past.name] != node:
                del self._poor[past.name]
            return
        rounds = {past.checkpoint.round - 1} | ({past.checkpoint.round} if is_last else set())
        is_poor = any(_nodes_told(past, number) < len(past.checkpoint.roster) for number in rounds)
        place = self.past.places.get(past.name)
        if is_poor and (place is None or not place.has_reports or (is_last and not place.is_closed)):
            self._poor[past.name] = node

    async def _news_of(self, past: Past) -> HistoryEntry | None:
        """What an entry says more than what is here, if anything; of a node and round the first report counts."""
        if past.name not in self.past.places:
            return past.entry
        here = by_subject((await self.past.entry(past.name)).reports)
        new = tuple(raw for subject, raw in by_subject(past.entry.reports).items() if subject not in here)
        if new or (past.name in self._untimed and past.entry.committed_at):
            return past.entry.model_copy(update={"reports": new})
        return None

    async def _keep(self, new: list[tuple[Hash, HistoryEntry]]) -> None:
        if new:
            with trio.CancelScope(shield=True):
                await self.past.append([entry for _, entry in new])
            self._fresh.update(name for name, _ in new)
            self._tell_news()

    def _tell_news(self) -> None:
        self.news.set()
        self.news = trio.Event()


def _nodes_told(past: Past, round_number: int) -> int:
    """How many nodes' reports on a round came with an entry."""
    return sum(number == round_number for _, number in by_subject(past.entry.reports))
