"""A task that failed: one line of it for the run's proposer, whoever else may see this node's log. docs/protocol.md §8.

The line says the exception's kind and place and the round, not its message, which may hold data. It is durable before
it is sent, and repeated until the proposer has heard it, be that days later.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from node.logs.redact import redact
from node.run.known_run import KnownRun
from node.seams import Disk, TrainerFailed
from protocol.errors import FednodeError
from protocol.keys import NodeId, RunId
from protocol.run.messages import FAILURE_CHARACTERS_MAX, Failure, FailureHeard, RunMessage
from protocol.wire import pack, unpack

log = logging.getLogger("fednode.run")

AGAIN_FIRST_S = 5.0  # doubling from here: the answer may have been lost …
AGAIN_LAST_S = 600.0  # … to here: a proposer that is back after days hears of it within ten minutes
FAILURES_MAX = 100  # of one node in one run that are recorded: an honest one has one, or one a round that it measures
_FILE_BYTES_MAX = 4096


@dataclass(slots=True)
class _Untold:
    failure: Failure
    changed: trio.Event = field(default_factory=trio.Event)  # it was heard, or a newer one takes its place


class RunFailures:
    """Both sides: what failed here, and what others tell us of runs that we have proposed.

    Args:
        send: hands a message to a peer, best effort.
        spawn: runs an async function of a run in the background.
    """

    def __init__(
        self,
        me: NodeId,
        disk: Disk,
        send: Callable[[NodeId, RunMessage], None],
        spawn: Callable[[Callable[[KnownRun], Awaitable[None]], KnownRun], None],
    ) -> None:
        self._me = me
        self._disk = disk
        self._send = send
        self._spawn = spawn
        self._files = trio.Lock()  # none is deleted after it was written anew
        self._untold: dict[RunId, _Untold] = {}
        self._heard: dict[tuple[RunId, NodeId], set[tuple[int, bool]]] = {}

    # --- ours ----------------------------------------------------------------------------------------------------
    async def tell(self, known: KnownRun, round_number: int, error: FednodeError, goes_on: bool) -> None:
        """Let the proposer know. Of several failures that it has not heard of it hears the newest."""
        if known.entry.proposer == self._me:
            return
        reason = in_one_line(error, round_number, goes_on)
        failure = Failure(run=known.run_id, round=round_number, goes_on=goes_on, reason=reason)
        async with self._files:
            try:
                await self._disk.write(_file(known.run_id), pack(failure))
            except FednodeError as problem:  # it is told all the same, while this node is up
                log.warning("a failure of run %s is not remembered: %s", known.run_id[:8], problem.what)
            self._begin(known, failure)

    async def take_up(self, known: KnownRun) -> None:
        """After a restart: go on with what the proposer has not heard."""
        try:
            raw = await self._disk.read(_file(known.run_id))
            if raw is not None and known.run_id not in self._untold:
                self._begin(known, unpack(Failure, raw, _FILE_BYTES_MAX))
        except FednodeError as problem:
            log.warning("the proposer of run %s may not hear of a failure: %s", known.run_id[:8], problem.what)

    def _begin(self, known: KnownRun, failure: Failure) -> None:
        before = self._untold.get(known.run_id)
        self._untold[known.run_id] = _Untold(failure)
        if before is None:
            self._spawn(self._repeat, known)
        else:
            before.changed.set()

    async def _repeat(self, known: KnownRun) -> None:
        again_s, said = AGAIN_FIRST_S, None
        while (untold := self._untold.get(known.run_id)) is not None:
            again_s = AGAIN_FIRST_S if untold is not said else min(2 * again_s, AGAIN_LAST_S)
            said = untold
            self._send(NodeId(known.entry.proposer), untold.failure)
            with trio.move_on_after(again_s):
                await untold.changed.wait()
        async with self._files:
            if known.run_id in self._untold:
                return  # the file says what failed since
            try:
                await self._disk.delete(_file(known.run_id))
            except FednodeError as problem:  # it is told once more after a restart, and known there already
                log.warning("a file of run %s stays on the disk: %s", known.run_id[:8], problem.what)

    # --- messages ------------------------------------------------------------------------------------------------
    def on_message(self, known: KnownRun, peer: NodeId, message: Failure | FailureHeard) -> None:
        """What is not the sender's to tell, or not ours to hear, is overlooked."""
        if isinstance(message, FailureHeard):
            self._on_heard(known, peer, message)
        else:
            self._on_failure(known, peer, message)

    def _on_heard(self, known: KnownRun, peer: NodeId, message: FailureHeard) -> None:
        untold = self._untold.get(known.run_id)
        if untold is None or peer != known.entry.proposer:
            return
        if (untold.failure.round, untold.failure.goes_on) == (message.round, message.goes_on):
            del self._untold[known.run_id]
            untold.changed.set()

    def _on_failure(self, known: KnownRun, peer: NodeId, message: Failure) -> None:
        """Answer it, and record it once. Who leaves the roster may still tell why, and nobody floods the record."""
        ledger = known.ledger
        if known.entry.proposer != self._me or ledger is None:
            return
        if peer not in ledger.notes() and peer not in ledger.first_nodes():
            return
        self._send(peer, FailureHeard(run=message.run, round=message.round, goes_on=message.goes_on))
        heard = self._heard.setdefault((known.run_id, peer), set())
        if (message.round, message.goes_on) in heard or len(heard) >= FAILURES_MAX:
            return
        heard.add((message.round, message.goes_on))
        entry = known.place.state().nodes.get(peer)
        known.chronicle.failure(peer, entry.name if entry else peer, message)


def in_one_line(error: FednodeError, round_number: int, goes_on: bool) -> str:
    """What a failure of the task's may tell others: its kind and place, or fednode's own words."""
    brief = error.brief if isinstance(error, TrainerFailed) and error.brief else error.what
    line = " ".join(redact(brief).split())
    place = f"measuring round {round_number}" if goes_on else f"round {round_number}"
    return f"{line[: FAILURE_CHARACTERS_MAX - 40] or 'it failed'} ({place})"


def _file(run: RunId) -> str:
    return f"run-{run}.failure"
