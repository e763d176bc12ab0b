"""The one driver of a run: hands events to its pure machine and carries the outputs out, in their order.

`Persist` is durable before anything after it is carried out; what takes long (fetching, training, combining) runs in
tasks of its own, whose answers come back as events. Nothing here decides anything about the protocol.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from node.network.bulk.bulk import Transfer
from node.network.complaints import Complaints
from node.run.audit import RunAudit
from node.run.chronicle import Chronicle
from node.run.data import RunData
from node.run.no_room import trained_when_there_is_room, without_room
from node.run.round_words import refused_in
from node.run.task import RunTask
from node.run.timers import Timers
from node.seams import Disk, TrainerFailed
from protocol.errors import FednodeError
from protocol.keys import BlobId, Hash, NodeId, RunId
from protocol.run.checkpoint import Checkpoint, checkpoint_blobs
from protocol.run.directions import Directions
from protocol.run.events import (
    STATE_LETTERS,
    Began,
    CodingBegan,
    Collect,
    Combine,
    Committed,
    Directed,
    Elected,
    Ended,
    Evaluate,
    Evaluated,
    Evidence,
    FetchEarly,
    Measured,
    Misbehaved,
    Note,
    Obtain,
    Obtained,
    ParticipantState,
    Persist,
    Received,
    Recompute,
    Recomputed,
    RunEvent,
    RunOutput,
    Send,
    SetTimer,
    Timer,
    Train,
    TrainingFailed,
    WentOn,
)
from protocol.run.machine import RunMachine
from protocol.run.messages import OfferMessage, RunMessage

log = logging.getLogger("fednode.run")

# Events that wait for the machine, which handles some thousands a second. More are dropped, and said again.
INBOX_EVENTS_MAX = 4096
# The same in bytes: a few of the longest commits from everybody, and far below memory.
INBOX_BYTES_MAX = 64 * 1024 * 1024

TellProposer = Callable[[int, FednodeError, bool], Awaitable[None]]  # the round, what failed, whether our part goes on
Work = Obtain | Collect | Combine | Recompute | Train | Evaluate


def journal_name(run: RunId) -> str:
    return f"run-{run}"


class RunDriver:
    """One run on this node, from its start until the node stops. `send` hands a message to a peer, best effort;
    `name_of` gives what people call a node."""

    def __init__(
        self,
        run: RunId,
        machine: RunMachine,
        *,
        disk: Disk,
        data: RunData,
        audit: RunAudit,
        task: RunTask,
        chronicle: Chronicle,
        send: Callable[[NodeId, RunMessage], None],
        tell_proposer: TellProposer,
        name_of: Callable[[NodeId], str],
    ) -> None:
        self.run_id = run
        self.machine = machine
        self.chronicle = chronicle
        self.ended = trio.Event()
        machine.overview.is_wanted = chronicle.tells_of_others
        self._spans = chronicle.spans
        self._disk = disk
        self._data = data
        self._audit = audit
        self._task = task
        task.early.began = self._coding_began
        self._send = send
        self._tell_proposer = tell_proposer
        self._name_of = name_of
        self._complaints = Complaints(trio.current_time)
        self._to_inbox, self._inbox = trio.open_memory_channel[RunEvent](INBOX_EVENTS_MAX)
        self._inbox_bytes = 0
        self._sizes: dict[int, int] = {}  # of the messages in the inbox, by the event's identity
        self._timers = Timers()
        self._nursery: trio.Nursery | None = None
        self._trains_anew = False  # since the update that was offered is gone
        self._scope = trio.CancelScope()

    # --- what others do ------------------------------------------------------------------------------------------
    def deliver(self, peer: NodeId, message: RunMessage, size: int) -> None:
        """A message of the run came, in `size` bytes. Never blocks; one too many is dropped, and so is what comes after
        an error."""
        event = Received(peer, message)
        try:
            if self._inbox_bytes + size > INBOX_BYTES_MAX:
                raise trio.WouldBlock
            self._to_inbox.send_nowait(event)
            self._sizes[id(event)] = size
            self._inbox_bytes += size
        except trio.WouldBlock:
            if told := self._complaints.told(peer, f"run {self.run_id[:8]} is too busy"):
                log.warning("a message of %s was dropped: %s", peer, told)
        except trio.BrokenResourceError:
            return

    async def direct(self, directions: Directions) -> None:
        """This is what the group's log asks of the run now."""
        with suppress(trio.BrokenResourceError):  # an error has ended the driver
            await self._to_inbox.send(Directed(directions))

    def holds(self, blob: BlobId) -> bool:
        """Whether the run still works with a blob, keeps it, or offers it."""
        ledger, offer = self.machine.ledger, self.machine.participation.offer
        is_offered = offer is not None and offer[1].update == blob and offer[1].round > ledger.committed_round
        return is_offered or self._data.holds(blob) or blob in ledger.blobs()

    def keeps(self, blob: BlobId) -> bool:
        """Whether `blob` is something that our task has made and wants kept."""
        return self._task.keeps(blob)

    def needs(self, *, is_over: bool) -> set[str]:
        """The blobs that the run needs here: to go on, or, where that `is_over`, for what it does at this moment."""
        ledger, offer = self.machine.ledger, self.machine.participation.offer
        needed = self._data.in_use(has_ended=ledger.has_ended)
        if not is_over:
            needed |= ledger.blobs()
        if not ledger.has_ended:
            needed |= ledger.update_blobs() | ({offer[1].update} if offer is not None else set())
            base = ledger.committed_before(ledger.newest)  # which an audit of the newest goes out from
            needed |= set(checkpoint_blobs(base)) if base is not None else set()
        return needed

    def kind_on_its_way(self, blob: BlobId) -> str:
        """What a blob is that the run fetches just now; "" for others."""
        return self._data.fetching.kinds.get(blob, "")

    def has_update(self, blob: BlobId) -> bool:
        """Whether `blob` is an update that others may have to recompute a checkpoint from."""
        return self._data.has_update(blob)

    def has_of_checkpoint(self, blob: BlobId) -> bool:
        """Whether `blob` is the model of a committed round, or its schema, or of a checkpoint that comes or came."""
        return self._data.has_of_checkpoint(blob)

    def on_sent(self, transfer: Transfer) -> None:
        """A piece of a blob of the run has gone to a peer."""
        offer = self.machine.participation.offer
        if offer is not None and offer[1].update == transfer.blob:
            self._spans.uploaded(transfer.peer, offer[1].round, transfer.seconds, transfer.size)
        elif transfer.blob == self._task.early.name:
            self._spans.uploaded(transfer.peer, self._task.early.round, transfer.seconds, transfer.size)

    def is_coding(self, blob: BlobId) -> bool:
        """Whether this is what the update is called that our task is coding, or has coded in this round."""
        return blob == self._task.early.name

    def _coding_began(self, round_number: int, base: Hash) -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError):  # it is sent when it is whole, then
            self._to_inbox.send_nowait(CodingBegan(round_number, base))

    # --- the loop ------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Drive the machine until cancelled."""
        try:
            with self._scope:
                await self._drive()
        finally:
            self._nursery = None
            self._inbox.close()
            with trio.CancelScope(shield=True):
                await self._data.early.only_for(None)
                await self._task.close()

    def leave(self) -> None:
        """Take no part any more: to the others we are lost. What the journal holds stays for a return."""
        self._scope.cancel()

    async def _drive(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._timers.ring, lambda name: self._to_inbox.send(Timer(name)))
            if self.machine.ledger.committed is not None:
                nursery.start_soon(self._data.learn_models, journal_name(self.run_id))
            await self._carry_on(self.machine.ledger.newest)  # for it may have been committed just before a crash
            await self._step(Began())
            async for event in self._inbox:
                self._inbox_bytes -= self._sizes.pop(id(event), 0)
                await self._step(event)

    async def _step(self, event: RunEvent) -> None:
        for output in self.machine.step(event, trio.current_time()):
            await self._carry_out(output)
        await self._data.early.only_for(self.machine.reign.gathering if self.machine.reign else None)
        self.chronicle.settle()

    async def _carry_out(self, output: RunOutput) -> None:
        match output:
            case Persist(record):
                await self._disk.append(journal_name(self.run_id), record)
            case Send(peer, message):
                self._send(peer, message)
                if isinstance(message, OfferMessage):  # it is said until it is receipted
                    self._in_background(self._look_after_update)
            case SetTimer(name, after_s):
                self._timers.set(name, after_s)
            case FetchEarly():
                self._in_background(self._data.fetch_early, output)
            case Obtain() | Collect() | Combine() | Recompute() | Train() | Evaluate():
                self._in_background(self._answer, output)
            case _:
                await self._tell(output)

    def _in_background(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(work, *arguments)

    # --- what takes long -----------------------------------------------------------------------------------------
    async def _answer(self, wanted: Work) -> None:
        event = await self._do(wanted)
        if event is not None:
            await self._to_inbox.send(event)

    async def _do(self, wanted: Work) -> RunEvent | None:
        match wanted:
            case Obtain():
                ok = await self._data.checkpoints.obtain(wanted, self._lacks_room)
                return Obtained(wanted.name, ok, wanted.may_lack_state)
            case Collect():
                collected = await self._data.collect(wanted, self.machine.ledger.newest)
                if collected.refused and wanted.offer.node == self.machine.context.me:
                    self._in_background(self._look_after_update)  # the aggregator hears first that it was in vain
                return collected
            case Combine():
                return await self._combine(wanted)
            case Recompute():
                return Recomputed(wanted.name, await self._audit.recompute(wanted))
            case Train():
                return await self._train(wanted)
            case Evaluate():
                try:
                    return await self._task.evaluate(wanted)
                except FednodeError as error:
                    await self._tell_failure("Evaluating", error, wanted.checkpoint.round, goes_on=True)
                    return Evaluated(wanted.checkpoint.round, wanted.name, 0, {})

    async def _look_after_update(self) -> None:
        """Train anew for the round under way when the update that we offer is not here any more: whoever is to have
        it would ask for ever."""
        participation, committed = self.machine.participation, self.machine.ledger.committed
        offer = participation.offer
        if self._trains_anew or offer is None or committed is None or offer[1].base != committed.name:
            return
        self._trains_anew = True
        try:
            is_here = await self._disk.has_blob(BlobId(offer[1].update))
            if is_here or participation.offer is not offer or self.machine.ledger.committed is not committed:
                return
            self._say(
                "WARNING", f"the update of round {offer[1].round} is not here any more: the round is trained anew"
            )
            await self._answer(Train(offer[1].round, committed.name, committed.checkpoint))
        finally:
            self._trains_anew = False

    async def _train(self, wanted: Train) -> RunEvent | None:
        try:
            return await trained_when_there_is_room(partial(self._task.train, wanted), wanted.round, self._lacks_room)
        except FednodeError as error:
            await self._tell_failure("Training", error, wanted.round, goes_on=False)
            return TrainingFailed(wanted.round, error.what[:500])

    async def _lacks_room(self, what: str, round_number: int, error: FednodeError) -> None:
        """Tell everybody, once, that nobody is to wait for us until there is room here (§8.7)."""
        if STATE_LETTERS[self.machine.participation.letter] != "FAILED":
            self._say("WARNING", f"round {round_number} {what}: {error.what}. To fix: {error.remedy}")
            await self._to_inbox.send(without_room(round_number, error))
            await self._tell_proposer(round_number, error, False)

    async def _combine(self, wanted: Combine) -> RunEvent:
        self._spans.busy()
        with self._spans.measuring("aggregate", wanted.round) as measured:
            combined = await self._data.combine(wanted)
            measured.is_kept = not combined.failed
        self._look_whether_we_wait(wanted.round)
        return combined

    def _look_whether_we_wait(self, round_number: int) -> None:
        if STATE_LETTERS[self.machine.participation.letter] == "WAITING" and not self.machine.ledger.has_ended:
            self._spans.waits(round_number)

    async def _tell_failure(self, what: str, error: FednodeError, round_number: int, *, goes_on: bool) -> None:
        """All of it to our owner, a line of it to the proposer."""
        self._say("ERROR", f"{what} failed: {error.what}. To fix: {error.remedy}.")
        if isinstance(error, TrainerFailed) and error.traceback:
            self.chronicle.log("ERROR", "task.traceback", error.traceback)
        await self._tell_proposer(round_number, error, goes_on)

    # --- what people are told ------------------------------------------------------------------------------------
    async def _tell(self, output: RunOutput) -> None:
        match output:
            case Committed(name, checkpoint, _):
                self._spans.round_over()
                self._task.early.end()
                self._look_whether_we_wait(checkpoint.round + 1)
                if self.machine.ledger.has_ended:
                    self._task.stop_training()
                self.chronicle.committed(output, await self._model_bytes(checkpoint), self._data.norms)
                self._say("INFO", f"round {checkpoint.round} is committed ({name[:12]})")
                if refused := refused_in(checkpoint, self._name_of):
                    self._say("WARNING", f"round {checkpoint.round} went without {refused}")
                await self._carry_on(checkpoint)
                await self._forget_before(checkpoint)
            case Elected(term, aggregator):
                self.chronicle.elected(output)
                if aggregator is not None:
                    self._say("INFO", f"{self._name_of(aggregator)} aggregates in term {term}")
            case Measured():
                self.chronicle.measured(output)
            case ParticipantState(node=node, round=committed):
                self.chronicle.participant(output)
                if output.tells_of_a_refusal:  # of what is no part of the round no checkpoint tells
                    self._say("INFO", f"{self._name_of(node)}: {output.reason}")
                if node == self.machine.context.me:
                    self._spans.busy()
                    self._look_whether_we_wait(committed + 1)
            case Note(text):
                self.chronicle.note(text)
            case Evidence(what=what):
                lied = f"{self._name_of(output.node)} lied: {what}. What it signed is kept in the journal"
                self.chronicle.log("ERROR", "fednode.run.deposed", lied)
            case Misbehaved(peer, what):
                if told := self._complaints.told(peer, what):
                    self._say("WARNING", f"dropped a message of {self._name_of(peer)}: {told}")
            case Ended(outcome, reason):
                if self.chronicle.ended(output, self.machine.ledger.committed_round):  # not at each start again
                    self._say("INFO", f"the run is {outcome}" + (f": {reason}" if reason else ""))
                await self._task.close()
                self.ended.set()
            case WentOn():
                self._task.go_on()
                self.ended = trio.Event()
                self.chronicle.state("", "RUNNING", "", self.machine.ledger.committed_round)
                self._say("INFO", "the run goes on from its newest checkpoint")
            case _:
                raise AssertionError(f"nobody carries out {output}")

    def _say(self, level: str, message: str) -> None:
        self.chronicle.log(level, "fednode.run", message)

    async def _carry_on(self, checkpoint: Checkpoint) -> None:
        try:
            await self._task.carried.on_committed(checkpoint)
        except FednodeError as error:  # it is tried again with the next training
            self._say("WARNING", f"what follows from round {checkpoint.round} here is not kept: {error.what}")

    async def _forget_before(self, checkpoint: Checkpoint) -> None:
        offer = self.machine.participation.offer
        try:
            await self._data.forget_before(checkpoint, offer[1] if offer else None)
        except FednodeError as error:  # room that is not given back is no reason to end a run
            self._say("WARNING", f"what led to round {checkpoint.round} stays on the disk: {error.what}")

    async def _model_bytes(self, checkpoint: Checkpoint) -> int | None:
        try:
            reader = await self._disk.open_blob(BlobId(checkpoint.model))
        except FednodeError as error:
            self._say("ERROR", f"the model of round {checkpoint.round} cannot be read: {error.what}")
            return None
        return reader.size
