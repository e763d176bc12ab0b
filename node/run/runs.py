"""The runs of all groups on this node: told by the groups' logs, decided by the owner, driven to their end.

Every reaction to the log is a reconciliation: what the log says of a run is compared with what is done about it here,
so it does not matter in which order, or how often, operations arrive, or when the node was restarted in between.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from node.data.datasets import DataSets
from node.home.identity import Identity
from node.membership.group_place import GroupPlace
from node.membership.groups import Groups
from node.network.bulk.bulk import Bulk, Transfer
from node.network.links import RUN_CHANNEL, Links
from node.run.answers import RunAnswers
from node.run.audit import RunAudit
from node.run.blobs import RunBlobs
from node.run.chronicle import Chronicle, Numbers
from node.run.data import RunData
from node.run.driver import RunDriver, journal_name
from node.run.early import OwnEarly
from node.run.failures import RunFailures
from node.run.histories import AskQuestion, Histories
from node.run.known_run import TAKE_UP_AGAIN_S, KnownRun, why_it_ended
from node.run.plan import directions_of, run_settings, task_spec
from node.run.policy import Policy
from node.run.readers import kind_for
from node.run.round_blobs import RoundBlobs
from node.run.start import COULD_NOT_START, check_start
from node.run.task import RunTask
from node.run.task_files import TaskFiles
from node.run.watch import RunWatch
from node.seams import Disk, Record, Trainer
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.group.operation_kinds import Payload, RunExtend, RunPropose, RunResume, RunStop
from protocol.group.operation_kinds import RunStart as RunStartOperation
from protocol.group.operations import OpenOperation
from protocol.group.presence import Capacity
from protocol.group.state import RunEntry
from protocol.keys import BlobId, NodeId, RunId
from protocol.limits import FRAME_BYTES_MAX, OPERATION_BYTES_MAX
from protocol.manifest.manifest import Manifest, unpack_manifest
from protocol.run.checkpoint import Checkpoint, RunStart
from protocol.run.machine import RunMachine
from protocol.run.messages import DeclinedMessage, Failure, FailureHeard, ReadyMessage, RunMessage
from protocol.wire import pack, unpack

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger("fednode.run")

TRAINING_SLOTS = 2  # runs that train at once on one node; more would only slow each other down


class Runs:
    """All runs that this node knows."""

    def __init__(
        self,
        identity: Identity,
        groups: Groups,
        *,
        disk: Disk,
        trainer: Trainer,
        record: Record,
        links: Links,
        bulk: Bulk,
        data_sets: DataSets,
        policy: Policy,
        task_files: TaskFiles,
        now: Callable[[], float],
        random: Random,
        capacity: Callable[[], Capacity],
        ask: AskQuestion,
        changed: Callable[[RunId, str, tuple[Any, ...]], None],
        moved: Callable[[RunId, NodeId, NodeId, str, int, int], None],
    ) -> None:
        self.known: dict[RunId, KnownRun] = {}
        self._identity = identity
        self._groups = groups
        self._disk = disk
        self._trainer = trainer
        self._record = record
        self._links = links
        self._bulk = bulk
        self._data_sets = data_sets
        self._task_files = task_files
        self._now = now
        self._random = random
        self._changed = changed
        self._moved = moved
        self.numbers = Numbers(now)
        self.of_rounds = RoundBlobs(disk, self._holds)
        self._slots = trio.CapacityLimiter(TRAINING_SLOTS)
        self._nursery: trio.Nursery | None = None
        self.histories = Histories(
            identity.node_id,
            self.known,
            disk=disk,
            record=record,
            now=now,
            ask=ask,
            connected=lambda: groups.connected,
            spawn=self._spawn,
        )
        self.failures = RunFailures(identity.node_id, disk, self.send, self._spawn)
        self.answers = RunAnswers(
            identity,
            groups,
            disk=disk,
            trainer=trainer,
            data_sets=data_sets,
            policy=policy,
            task_files=task_files,
            now=now,
            capacity=capacity,
            send=self.send,
            take_up=self._take_up,
            spawn=self._spawn,
            newest_of=self._newest_of,
        )

    # --- life ----------------------------------------------------------------------------------------------------
    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what the logs say, and drive the runs until cancelled. Started once that is taken up."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for place in list(self._groups.places.values()):
                    for run_id, entry in list(place.state().runs.items()):
                        await self._reconcile(place, run_id, entry)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None  # what still comes in while the node ends is taken up at its next start

    async def on_operations(self, place: GroupPlace, operations: Sequence[OpenOperation]) -> None:
        """The group's log has grown: see what it says now of the runs that it speaks of."""
        concerned: dict[RunId, None] = {}
        for operation in operations:
            match operation.payload:
                case RunPropose():
                    concerned[RunId(operation.hash)] = None
                case RunStartOperation(run=run) | RunStop(run=run) | RunResume(run=run) | RunExtend(run=run):
                    concerned[RunId(run)] = None
        for run_id in concerned:
            entry = place.state().runs.get(run_id)
            if entry is not None and self._nursery is not None:
                await self._reconcile(place, run_id, entry)

    async def _reconcile(self, place: GroupPlace, run_id: RunId, entry: RunEntry) -> None:
        """Do what the log asks for. One run's trouble keeps neither the node nor its other runs from going on."""
        try:
            await self._compare(place, run_id, entry)
        except FednodeError as error:
            log.error("run %s could not be taken up; restart the node to try again: %s", run_id[:8], error)

    async def _compare(self, place: GroupPlace, run_id: RunId, entry: RunEntry) -> None:
        known = self.known.get(run_id)
        if known is None:
            known = await self._get_to_know(place, run_id, entry)
            if known is None:
                return
        known.entry = entry = place.state().runs.get(run_id, entry)  # the log may have grown meanwhile
        if entry.start is not None:
            await self._take_up(known, entry.start)
        await self._direct(known)

    async def _get_to_know(self, place: GroupPlace, run_id: RunId, entry: RunEntry) -> KnownRun | None:
        try:
            manifest = unpack_manifest(entry.manifest)
        except RemoteProtocolError as error:
            log.warning("ignored a proposal by %s: %s", entry.proposer, error.what)
            return None
        chronicle = Chronicle(
            run_id,
            self._identity.node_id,
            self._record,
            now=self._now,
            sequence=self.numbers,
            changed=lambda kind, rows: self._changed(run_id, kind, rows),
        )
        known = KnownRun(run_id, place, entry, manifest, chronicle)
        await known.load_decision(self._disk)
        recorded = await self._record.query("run", run_id=run_id)
        participants = await self._record.query("participants", run_id=run_id) if recorded else []
        if self.known.setdefault(run_id, known) is not known:
            return self.known[run_id]  # another operation has told of it meanwhile
        known.history = self.histories.of(known)
        chronicle.describe(manifest, place.group, entry.proposer, float(entry.proposed_at))
        if recorded:
            chronicle.restore(recorded[0], participants)
        else:
            chronicle.proposed(manifest)
        if not recorded or recorded[0]["decision"] == "imported":
            chronicle.decided(known.decision.decision, known.decision.reason)
        if entry.start is None and entry.stop is None and place.admits(entry.proposer):
            await self.answers.begin_gathering(known)
        return known

    # --- before the start ----------------------------------------------------------------------------------------
    async def propose(self, place: GroupPlace, manifest: Manifest) -> KnownRun:
        """Write a proposal into the group's log, and answer it ourselves. Raises Refused."""
        operation = await self._groups.say(place, RunPropose(manifest=pack(manifest)))
        known = self.known.get(RunId(operation.hash))
        if known is None:
            raise FednodeError("The proposal was written but is not known yet", remedy="see fednode run list")
        return known

    def _spawn(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(work, *arguments)

    def _newest_of(self, run: RunId) -> Checkpoint | None:
        known = self.known.get(run)
        held = known.driver.machine.ledger.committed if known and known.driver else None
        return held.checkpoint if held else None

    # --- from the start on ---------------------------------------------------------------------------------------
    async def _take_up(self, known: KnownRun, raw_start: bytes) -> None:
        """The run has started: take our part in it, if we have one."""
        if known.driver is not None or known.taking_up:
            return
        try:
            start = unpack(RunStart, raw_start, OPERATION_BYTES_MAX)
            roster = check_start(known, start)
        except RemoteProtocolError as error:
            known.over = True
            known.chronicle.state("", "FAILED", f"its start is malformed: {error.what}")
            return
        if known.decision.decision != "accepted":
            self._watch(known, start)
            return
        known.stop_watching()
        known.taking_up = True
        try:
            await self._drive(known, start, roster)
        finally:
            known.taking_up = False
        if known.driver is None:  # declined meanwhile
            self._watch(known, start)
        await self._direct(known)  # what came meanwhile

    async def _drive(self, known: KnownRun, start: RunStart, roster: list[NodeId]) -> None:
        machine = RunMachine(
            me=self._identity.node_id,
            key=self._identity.keys.node,
            run=known.run_id,
            start=start,
            starter=known.entry.proposer,
            settings=run_settings(known.manifest),
            jitter=self._random.random,
            records=await self._disk.records(journal_name(known.run_id)),
            entry=known.decision.ready,
            directions=directions_of(known.entry),
            is_member=known.place.is_member,
        )
        known.chronicle.started(start, {node: node in machine.context.voters for node in roster})
        await self.histories.resume(known, machine.ledger)
        await self.failures.take_up(known)
        driver = await self._make_driver(known, machine)
        if known.decision.decision == "accepted":  # still
            known.driver = driver
            self._spawn(self._supervise, known, driver)

    async def _supervise(self, known: KnownRun, driver: RunDriver) -> None:
        """One run's trouble must not end the node, nor its other runs. What the disk refuses now it may take later:
        then the run is taken up from its journal, as after a restart."""
        try:
            await driver.run()
        except Exception as error:
            log.debug("run %s failed on this node", known.name, exc_info=True)
            reason, is_ours = why_it_ended(error)
            known.chronicle.log("ERROR", "fednode.run", reason)
            known.chronicle.state(self._identity.node_id, "FAILED", reason)
            if not is_ours:
                await trio.sleep(TAKE_UP_AGAIN_S)
                if known.driver is driver:  # it was not declined, and accepted again, meanwhile
                    known.driver = None
                    await self._reconcile(known.place, known.run_id, known.entry)

    def _watch(self, known: KnownRun, start: RunStart) -> None:
        """The run goes on without us: look at it from outside."""
        known.chronicle.started(start, {})
        if known.watch is None:
            known.watch = RunWatch(
                self._identity.node_id,
                self._identity.keys.node,
                known.run_id,
                start,
                known.entry.proposer,
                run_settings(known.manifest),
                directions_of(known.entry),
                chronicle=known.chronicle,
                random=self._random,
                send=self.send,
            )
            self._spawn(known.watch.run)

    async def _make_driver(self, known: KnownRun, machine: RunMachine) -> RunDriver:
        data = self._data_sets.find(known.decision.data)  # None where its owner removed it after the run
        path, options, fingerprint = (data.path, dict(data.options), data.fingerprint) if data else (None, {}, "")
        task_path = await self._task_files.find(known.manifest)
        spec = task_spec(known.run_id, known.manifest, self._identity.node_id, path, options, task_path, fingerprint)
        chronicle, spans = known.chronicle, known.chronicle.spans
        assert known.history is not None  # since this node knows of the run

        def moved(source: NodeId, kind: str, size: int, round_number: int) -> None:
            chronicle.moved(size, received=True)
            self._moved(known.run_id, source, self._identity.node_id, kind, size, round_number)

        warn = partial(chronicle.log, "WARNING", "fednode.run")
        blobs = RunBlobs(self._disk, self._bulk, warn, self._trainer.offload, self.of_rounds, known.run_id)
        run_data = RunData(known.manifest, self._disk, self._bulk, self._trainer, moved, blobs=blobs, spans=spans)
        early = OwnEarly(known.run_id, self._identity.node_id, self._bulk)
        return RunDriver(
            known.run_id,
            machine,
            disk=self._disk,
            data=run_data,
            audit=RunAudit(run_data, self._disk, self._trainer),
            task=RunTask(spec, self._disk, blobs, self._trainer, self._slots, chronicle, spans, known.history, early),
            chronicle=chronicle,
            send=self.send,
            tell_proposer=partial(self.failures.tell, known),
            name_of=lambda node: entry.name if (entry := known.place.state().nodes.get(node)) else node,
        )

    async def say(self, known: KnownRun, payload: Payload) -> None:
        """Ask the group to stop the run, or to let it go on. Raises Refused when that is not ours to ask."""
        await self._groups.say(known.place, payload)

    async def _direct(self, known: KnownRun) -> None:
        """Hand on what the log asks of the run; one that never started is over when it is stopped."""
        directions = directions_of(known.entry)
        if known.driver is not None:
            await known.driver.direct(directions)
        elif known.watch is not None:
            if known.watch.direct(directions):
                self._spawn(known.watch.run)
        elif known.entry.stop is not None and known.entry.start is None and not known.over:
            known.over = True
            reason = known.entry.stop.reason
            known.chronicle.state("", "FAILED" if reason.startswith(COULD_NOT_START) else "STOPPED", reason)
            known.tell_news()

    # --- messages ------------------------------------------------------------------------------------------------
    def send(self, peer: NodeId, message: RunMessage) -> None:
        self._links.send(peer, RUN_CHANNEL, pack(message), kind=f"{message.run}/{message.kind}")

    async def on_message(self, peer: NodeId, payload: bytes) -> None:
        """A message of some run. Raises RemoteProtocolError when it is none."""
        message: RunMessage = unpack(RunMessage, payload, FRAME_BYTES_MAX)  # type: ignore[arg-type]
        known = self.known.get(RunId(message.run))
        if known is None or not known.place.state().admits(peer):
            return
        if isinstance(message, Failure | FailureHeard):
            self.failures.on_message(known, peer, message)
        elif known.driver is not None:
            known.driver.deliver(peer, message, len(payload))
        elif known.watch is not None:
            known.watch.on_message(message)
        elif isinstance(message, ReadyMessage | DeclinedMessage):
            self.answers.on_answer(known, peer, message)

    # --- blobs ---------------------------------------------------------------------------------------------------
    def _holds(self, blob: BlobId) -> bool:
        drivers = (known.driver for known in self.known.values() if known.driver is not None)
        return any(driver.holds(blob) or driver.keeps(blob) for driver in drivers)

    def may_read(self, peer: NodeId, blob: BlobId) -> bool:
        """Checkpoints are for the run's roster; an update is for the aggregator, or for whom the manifest says."""
        return any(kind_for(known, peer, blob) for known in self.known.values())

    def on_sent(self, transfer: Transfer) -> None:
        """A piece of a blob went from here to a peer: count it for its run, and tell who watches."""
        peer, blob, size = transfer.peer, transfer.blob, transfer.size
        for known in [*self.active(), *self.known.values()]:  # those that go on first: an older one may hold it too
            kind = kind_for(known, peer, blob)
            if kind and known.driver is not None:
                known.chronicle.moved(size, received=False)
                known.driver.on_sent(transfer)
                round_number = known.driver.machine.ledger.committed_round
                self._moved(known.run_id, self._identity.node_id, peer, kind, size, round_number)
                return

    def using(self, data: str) -> list[KnownRun]:
        """The runs that train on a data set of ours here, or will once they start."""
        return [known for known in self.known.values() if known.uses(data)]

    def active(self) -> list[KnownRun]:
        """The runs that go on here."""
        return [known for known in self.known.values() if known.driver is not None and not known.is_over]
