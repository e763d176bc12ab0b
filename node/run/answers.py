"""What a node says to a proposal, and what a proposer makes of the answers. docs/protocol.md §6.

A proposal is accepted or declined by the owner's standing rules, or waits for the owner. The answer is signed, durable
before it is sent, and repeated until the group's log says that the run has started, or will not.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from node.data.datasets import DataSet, DataSets
from node.home.identity import Identity
from node.membership.groups import Groups
from node.run.known_run import Decision, KnownRun
from node.run.policy import Policy
from node.run.start import see_to_start
from node.run.task_files import TaskFiles
from node.seams import Disk, Trainer
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.group.operation_kinds import Payload
from protocol.group.presence import Capacity
from protocol.keys import NodeId, RunId
from protocol.run.checkpoint import Checkpoint, Declined, Ready, open_declined, open_ready, sign_note
from protocol.run.messages import DeclinedMessage, ReadyMessage, RunMessage
from protocol.run.voters import capacity_class

log = logging.getLogger("fednode.run")

# A ready note is repeated to the proposer so often until the run starts: it may have been off line.
ANSWER_AGAIN_S = 5.0
# What the proposer is told when our policy accepts and we cannot: nothing about what else is here.
_TOLD_REASONS = {
    "no-such-data": "it has no data set of that name",
    "no-such-task": "it does not have the task's file",
}


class RunAnswers:
    """Decisions about runs, ours and others'.

    Args:
        send: hands a message to a peer, best effort.
        take_up: takes our part in a run that has started, from its start.
        spawn: runs an async function of a run in the background.
        newest_of: the newest checkpoint of a run that is held here.
    """

    def __init__(
        self,
        identity: Identity,
        groups: Groups,
        *,
        disk: Disk,
        trainer: Trainer,
        data_sets: DataSets,
        policy: Policy,
        task_files: TaskFiles,
        now: Callable[[], float],
        capacity: Callable[[], Capacity],
        send: Callable[[NodeId, RunMessage], None],
        take_up: Callable[[KnownRun, bytes], Awaitable[None]],
        spawn: Callable[[Callable[[KnownRun], Awaitable[None]], KnownRun], None],
        newest_of: Callable[[RunId], Checkpoint | None],
    ) -> None:
        self._identity = identity
        self._groups = groups
        self._disk = disk
        self._trainer = trainer
        self._data_sets = data_sets
        self._policy = policy
        self._task_files = task_files
        self._now = now
        self._capacity = capacity
        self._send = send
        self._take_up = take_up
        self._spawn = spawn
        self._newest_of = newest_of

    async def begin_gathering(self, known: KnownRun) -> None:
        """A run was proposed and not started: answer it, and if it is ours see to its start."""
        mine = known.entry.proposer == self._identity.node_id
        if known.decision.decision == "undecided":
            await self._decide_by_policy(known, mine)
        elif known.decision.decision == "accepted":
            self._spawn(self._answer_until_start, known)
        if mine:
            known.chronicle.state("", "GATHERING", "")
            self._spawn(self._see_to_start, known)

    async def _see_to_start(self, known: KnownRun) -> None:
        try:
            await self._start_when_ready(known)
        except FednodeError as error:
            log.error("run %s could not be started: %s", known.name, error)
            known.chronicle.note(error.what)

    async def _start_when_ready(self, known: KnownRun) -> None:
        await see_to_start(
            known,
            me=self._identity.node_id,
            disk=self._disk,
            trainer=self._trainer,
            say=self._say,
            task_path=await self._task_files.find(known.manifest),
            now=self._now,
            news=lambda: known.news,
            parent=lambda: self._newest_of(RunId(known.manifest.parent)),
            present=lambda: self._groups.connected & known.place.state().nodes.keys(),
        )

    async def _say(self, known: KnownRun, payload: Payload) -> None:
        await self._groups.say(known.place, payload)

    async def _decide_by_policy(self, known: KnownRun, mine: bool) -> None:
        entry = known.entry
        if not mine and not self._policy.accepts(known.manifest, entry.proposer, entry.proposer_member):
            proposer = known.place.state().nodes.get(entry.proposer)
            log.info("%s proposes run %s: fednode run accept %s", proposer and proposer.name, known.name, known.name)
            return
        try:
            await self.accept(known, None)
        except Refused as refused:
            if mine:
                await self._accept_as(known, "observer", None)
                log.warning("this node proposed run %s and only observes it: %s", known.name, refused.what)
            else:
                # The whole reason, with what data there is instead, is for the owner alone.
                log.info("declined run %s: %s", known.name, refused.what)
                told = _TOLD_REASONS.get(refused.code, "it cannot take part")
                await self.decline(known, told, code=refused.code)

    async def accept(self, known: KnownRun, data: str | None) -> None:
        """Take part. Raises Refused when we cannot: no such data set, no such task file, or the run is over."""
        if known.is_over:
            raise Refused("run-is-over", f"The run {known.name} is over", remedy="see fednode run show")
        if known.decision.decision == "accepted":
            raise Refused("decided-already", f"This node takes part in {known.name} already", remedy="nothing to do")
        member = known.place.state().member_of(self._identity.node_id)
        role = known.manifest.roster.roles.get(self._identity.node_id, "trainer")
        if role == "observer" or (member is not None and member.role == "observer"):
            await self._accept_as(known, "observer", None)
            return
        if known.manifest.task.file is not None:
            await self._task_files.require(known.manifest)
        await self._accept_as(known, role, self._data_sets.get(data or known.manifest.data.name))

    async def _accept_as(self, known: KnownRun, role: str, data: DataSet | None) -> None:
        capacity = self._capacity()
        note = Ready(
            run=known.run_id,
            node=self._identity.node_id,
            role=role,  # type: ignore[arg-type]
            data_fingerprint=data.fingerprint if data else "",
            capacity_class=capacity_class(capacity.cpu_cores, capacity.memory_bytes),
        )
        ready = sign_note(self._identity.keys.node, note)
        known.decision = Decision("accepted", "", data.name if data else "", ready)
        await known.save_decision(self._disk)
        known.chronicle.decided("accepted", "")
        known.chronicle.state(self._identity.node_id, "READY", "")
        if known.entry.start is not None:
            await self._take_up(known, known.entry.start)
        else:
            self._spawn(self._answer_until_start, known)

    async def decline(self, known: KnownRun, reason: str, code: str = "declined") -> None:
        """Take no part, or no more: a run that has started goes on without us. Raises Refused for one that is over."""
        if known.is_over:
            raise Refused("run-is-over", f"The run {known.name} is over", remedy="see fednode run show")
        if known.driver is not None:
            known.driver.leave()
            known.driver = None
        known.decision = Decision("declined", reason)
        await known.save_decision(self._disk)
        known.chronicle.decided("declined", reason)
        known.chronicle.state(self._identity.node_id, "DECLINED", reason)
        note = Declined(run=known.run_id, node=self._identity.node_id, code=code[:40], reason=reason[:500])
        raw = sign_note(self._identity.keys.node, note)
        if known.entry.proposer != self._identity.node_id:
            self._send(known.entry.proposer, DeclinedMessage(run=known.run_id, declined=raw))
        if known.entry.start is not None:
            await self._take_up(known, known.entry.start)

    async def _answer_until_start(self, known: KnownRun) -> None:
        """Say that we are ready until the log says that the run has started, or will not."""
        proposer = known.entry.proposer
        while known.entry.start is None and known.entry.stop is None and known.decision.decision == "accepted":
            if not known.place.admits(proposer):  # it is out of the group, or we are
                return
            message = ReadyMessage(run=known.run_id, ready=known.decision.ready)
            if known.entry.proposer == self._identity.node_id:
                self.on_answer(known, self._identity.node_id, message)
                return
            self._send(known.entry.proposer, message)
            await trio.sleep(ANSWER_AGAIN_S)

    def on_answer(self, known: KnownRun, peer: NodeId, message: ReadyMessage | DeclinedMessage) -> None:
        """The proposer is told that a node is ready, or that it declines. Raises RemoteProtocolError."""
        if known.entry.proposer != self._identity.node_id or known.starting:
            return
        note = open_ready(message.ready) if isinstance(message, ReadyMessage) else open_declined(message.declined)
        if note.body.node != peer or note.body.run != known.run_id:
            raise RemoteProtocolError(f"{peer} answers in another's name, or for another run")
        if isinstance(message, ReadyMessage):
            known.declined.pop(peer, None)
            known.answers[peer] = message.ready
            known.chronicle.state(peer, "READY", "")
        elif isinstance(note.body, Declined):
            known.answers.pop(peer, None)
            known.declined[peer] = note.body.reason
            known.chronicle.state(peer, "DECLINED", note.body.reason)
        known.tell_news()
