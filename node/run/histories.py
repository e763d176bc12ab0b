"""The histories of all runs on this node: each is filled in as needed, and told to other members who ask.

Whoever is in the run's group may know its rounds and figures; a model is another matter (node.run.runs).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from node.run.driver import journal_name
from node.run.history import End, RunHistory, Standing
from node.run.known_run import KnownRun
from node.run.past import RunPast
from node.run.recorded_rounds import recorded_rounds
from node.seams import Disk, Record
from protocol.errors import Refused
from protocol.keys import Hash, NodeId, RunId
from protocol.run.checkpoint import Checkpoint, checkpoint_name
from protocol.run.history import HISTORY_ENTRIES_MAX, HistoryAnswer, HistoryEntry, HistoryRequest
from protocol.run.ledger import Ledger
from protocol.wire import pack, unpack

HISTORY_QUESTION = "history"
REQUEST_BYTES_MAX = 1024
PART_BYTES = 512 * 1024  # of an answer: a frame is sent, checked and kept at once
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # of one answer; who wants more asks again from where it ends
_ENTRY_OVERHEAD_BYTES = 64  # of msgpack's names and lengths, about


class AskQuestion(Protocol):
    """node.network.questions.Questions.ask."""

    def __call__(
        self, peer: NodeId, kind: str, request: bytes, *, bytes_max: int, is_at_hand: bool = False
    ) -> AsyncGenerator[bytes, None]: ...


class Histories:
    """Makes each run's history, and answers for all of them.

    Args:
        known: the node's runs, as they come and go.
        connected: the nodes that are reached without dialling.
        spawn: runs an async function in the background.
    """

    def __init__(
        self,
        me: NodeId,
        known: Mapping[RunId, KnownRun],
        *,
        disk: Disk,
        record: Record,
        now: Callable[[], float],
        ask: AskQuestion,
        connected: Callable[[], Collection[NodeId]],
        spawn: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._me = me
        self._known = known
        self._disk = disk
        self._record = record
        self._now = now
        self._ask = ask
        self._connected = connected
        self._spawn = spawn

    def of(self, known: KnownRun) -> RunHistory:
        """The history of a run that this node has got to know. The run's chronicle tells it what is missing."""
        history = RunHistory(
            self._me,
            RunPast(self._disk, journal_name(known.run_id)),
            record=self._record,
            chronicle=known.chronicle,
            began_s=known.entry.proposed_at,
            now=self._now,
            ask=partial(self._ask_for, known.run_id),
            standing=partial(standing_of, known, self._me),
            connected=self._connected,
            spawn=self._spawn,
        )
        known.chronicle.on_gap, known.chronicle.on_end = history.look_back, history.look_for_end
        return history

    async def resume(self, known: KnownRun, ledger: Ledger) -> None:
        """After a restart, before the run is driven: what of its past is missing?"""
        if known.history is not None:
            await known.history.resume(ledger)

    def _ask_for(self, run: RunId, node: NodeId, newest: Hash) -> AsyncGenerator[bytes, None]:
        request = pack(HistoryRequest(run=run, newest=newest))
        return self._ask(node, HISTORY_QUESTION, request, bytes_max=ANSWER_BYTES_MAX, is_at_hand=True)

    async def answer(self, peer: NodeId, raw: bytes) -> AsyncGenerator[bytes, None]:
        """What the journal has of a run, from a checkpoint downwards. See node.network.questions.Answerer."""
        request = unpack(HistoryRequest, raw, REQUEST_BYTES_MAX)
        known = self._known.get(RunId(request.run))
        if known is None or known.history is None or not known.place.state().admits(peer):
            raise _no_such_run()
        past = known.history.past
        await past.refresh()
        if request.newest not in past.places:
            raise Refused("unknown-checkpoint", "That checkpoint is not known here", remedy="ask another node")
        part: list[tuple[int, HistoryEntry]] = []
        sent = size = 0
        name = Hash(request.newest)
        while (place := past.places.get(name)) is not None and sent + size < ANSWER_BYTES_MAX * 3 // 4:
            entry = await past.entry(name)
            entry_bytes = len(entry.checkpoint) + sum(map(len, entry.reports)) + _ENTRY_OVERHEAD_BYTES
            if part and (size + entry_bytes > PART_BYTES or len(part) == HISTORY_ENTRIES_MAX):
                self._check_told_to(peer, known)
                yield await self._frame(known, part)
                sent, size, part = sent + size, 0, []
            part.append((place.round, entry))
            size += entry_bytes
            name = place.previous
        self._check_told_to(peer, known)
        yield await self._frame(known, part)

    def _check_told_to(self, peer: NodeId, known: KnownRun) -> None:
        """Raises Refused for who has been put out since it asked, and still shares another group with us."""
        if not known.place.state().admits(peer):
            raise _no_such_run()

    async def _frame(self, known: KnownRun, part: list[tuple[int, HistoryEntry]]) -> bytes:
        """A part of an answer, newest round first. The times are read for it alone: a run may have a million rounds."""
        bounds = {"after_round": part[-1][0] - 1, "before_round": part[0][0] + 1}
        rows = await recorded_rounds(self._record, known.run_id, **bounds)
        entries: list[HistoryEntry] = []
        for number, entry in part:
            row = rows.get(number)
            times = {"committed_at": row.committed_at, "seconds": row.seconds} if row is not None else {}
            entries.append(entry.model_copy(update=times))
        return pack(HistoryAnswer(entries=tuple(entries)))


def _no_such_run() -> Refused:
    return Refused("no-such-run", "No such run is known here", remedy="ask a node that takes part in it")


def standing_of(known: KnownRun, me: NodeId) -> Standing | None:
    """What this node knows of a run, be it only from outside."""
    ledger = known.ledger
    if ledger is None:
        return None
    away = known.driver.machine.intake.ended_without_us if known.driver is not None else None
    if away is not None:
        return _standing(known, me, checkpoint_name(away), away, "open")
    if ledger.committed is None or ledger.committed_round < 1:
        return None
    end: End = "not yet" if not ledger.has_ended else "open" if ledger.last_reports is None else "closed"
    return _standing(known, me, ledger.committed.name, ledger.committed.checkpoint, end)


def _standing(known: KnownRun, me: NodeId, name: Hash, checkpoint: Checkpoint, end: End) -> Standing:
    assert known.ledger is not None
    state = known.place.state()
    sources = [NodeId(node) for node in checkpoint.roster if node != me and state.admits(NodeId(node))]
    return Standing(name, checkpoint, end, known.ledger.zero.name, sources)
