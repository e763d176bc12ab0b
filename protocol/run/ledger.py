"""The checkpoints that a node holds: the newest stored, the newest committed, and the rules for taking new ones.

docs/protocol.md §8. A stored checkpoint is durable and acknowledged, but may yet be replaced by a newer term's; a
committed one is final.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from protocol.errors import RemoteProtocolError
from protocol.keys import BlobId, Hash, NodeId
from protocol.remembered import remembered
from protocol.run.checkpoint import (
    Checkpoint,
    Issue,
    Ready,
    RunStart,
    UpdateEntry,
    check_certificate,
    checkpoint_blobs,
    checkpoint_name,
    open_ack,
    open_checkpoint,
    open_issue,
    open_offer,
    open_report,
    ready_notes,
    starting_checkpoint,
    update_blobs,
)
from protocol.run.context import RunContext
from protocol.run.events import Persist
from protocol.run.history import believed_reports
from protocol.run.journal import ChangeRecord, CommittedRecord, ReportsRecord, StoredRecord
from protocol.run.lateness import check_late_updates, is_late
from protocol.run.messages import Commit, Proposal, VotersChanged
from protocol.run.succession import check_roster, check_stop, check_voters, differ_by_one_at_most
from protocol.run.voters import trainers_of
from protocol.signing import Signed
from protocol.wire import pack

_REMEMBERED = 8  # starts and checkpoints, of the few runs that go on at once


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint with its name and its signed bytes (none for the starting one)."""

    name: Hash
    checkpoint: Checkpoint
    raw: bytes


class MissedChanges(Exception):
    """Voters have changed more than once since what we hold: the commits in between must come first (§8.13)."""


class Ledger:
    """What this node holds of one run's chain of checkpoints."""

    def __init__(self, context: RunContext, start: RunStart, starter: NodeId) -> None:
        self.context = context
        zero = starting_checkpoint(start, starter, context.voters, context.settings.rounds)
        self.zero = Held(checkpoint_name(zero), zero, b"")
        self.stored = self.zero
        self.stored_term = 0
        self.committed: Held | None = None
        self._committed_before: Held | None = None
        self.stored_issue = b""
        self.certificate: tuple[bytes, ...] = ()
        self.reports: tuple[bytes, ...] = ()  # that came with the newest commit
        # Whose, and of which rounds, the reports are that came after the newest commit; None as long as none came.
        self.last_reports: frozenset[tuple[str, int]] | None = None
        self.zero_is_durable = False
        self._first_notes = _notes_by_node(start)
        self.changes: list[tuple[int, VotersChanged]] = []  # commits that changed the voters, with their rounds
        self._follow_voters()

    @property
    def committed_round(self) -> int:
        """-1 before the starting checkpoint is committed."""
        return self.committed.checkpoint.round if self.committed else -1

    @property
    def newest_round(self) -> int:
        """Of the newest checkpoint that somebody can have measured, as far as this node knows."""
        return max(self.committed_round, self.stored.checkpoint.round)

    @property
    def has_ended(self) -> bool:
        """Whether the newest commit is the run's last, for all that the group has asked (§8.14)."""
        committed = self.committed
        return committed is not None and self.context.directions.end_at(committed.name, committed.checkpoint)

    @property
    def newest(self) -> Checkpoint:
        """The newest committed checkpoint, or the starting one."""
        return (self.committed or self.zero).checkpoint

    def notes(self) -> Mapping[NodeId, Ready]:
        """The ready notes of the roster: of the start, and of all who entered up to the newest commit."""
        return check_roster(self.newest, self._first_notes)

    def trainers_after(self, base: Checkpoint) -> frozenset[NodeId]:
        """Who trains in the round after `base` (§6.3)."""
        notes = check_roster(base, self._first_notes)
        trainers = [node for node, note in notes.items() if note.role == "trainer"]
        return trainers_of(self.context.run, base.round + 1, trainers, self.context.settings.fraction)

    def first_nodes(self) -> frozenset[NodeId]:
        """The nodes of the start."""
        return frozenset(self._first_notes)

    def roster(self) -> tuple[NodeId, ...]:
        return cast(tuple[NodeId, ...], self.newest.roster)

    def committed_before(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The committed checkpoint that this one builds on, if it is one of the newest two here."""
        for held in (self.committed, self._committed_before):
            if held is not None and held.name == checkpoint.previous:
                return held.checkpoint
        return None

    def blobs(self) -> set[BlobId]:
        """The blobs of the checkpoints that others may still ask us for."""
        checkpoints = [held.checkpoint for held in (self.zero, self.stored, self.committed) if held is not None]
        return {blob for checkpoint in checkpoints for blob in checkpoint_blobs(checkpoint)}

    def update_blobs(self) -> frozenset[str]:
        """The updates that our newest checkpoints were made of."""
        committed = self.committed.checkpoint if self.committed else self.zero.checkpoint
        return update_blobs(self.stored.checkpoint) | update_blobs(committed)

    def is_durable(self, held: Held) -> bool:
        return held.name != self.zero.name or self.zero_is_durable

    # --- taking in -----------------------------------------------------------------------------------------------
    def check_proposal(self, peer: NodeId, message: Proposal) -> tuple[Signed[Issue], Held]:
        """The issue and checkpoint of a proposal that may be acknowledged once durable. Raises RemoteProtocolError."""
        issue = open_issue(message.issue)
        if issue.node_id != peer:
            raise RemoteProtocolError(f"{peer} passes on an issue that {issue.node_id} signed")
        held = self.open_held(message.checkpoint)
        body = issue.body
        if (body.run, body.round, body.checkpoint) != (self.context.run, held.checkpoint.round, held.name):
            raise RemoteProtocolError(f"The issue of {peer} does not name the checkpoint that came with it")
        if held.checkpoint.made_in_term > body.term:
            raise RemoteProtocolError("A checkpoint is issued in a term before the one that it was made in")
        self._check_succession(held)
        return issue, held

    def open_held(self, raw: bytes) -> Held:
        """The checkpoint in `raw`, well formed and of this run; the starting one for no bytes."""
        if not raw:
            return self.zero
        signed = open_checkpoint(raw)
        checkpoint = signed.body
        if checkpoint.run != self.context.run:
            raise RemoteProtocolError("A checkpoint of another run")
        if checkpoint.round < 1:
            raise RemoteProtocolError("Somebody else's word for the starting checkpoint")
        if checkpoint.tensor_schema != self.zero.checkpoint.tensor_schema:
            raise RemoteProtocolError("A checkpoint of a model with another schema than the run's")
        if (checkpoint.outcome == "finished") != _is_last(checkpoint):
            raise RemoteProtocolError("A checkpoint ends the run before its last round, or does not end it there")
        if checkpoint.outcome == "failed":
            raise RemoteProtocolError("A checkpoint says that the run failed, which ends none that has started")
        check_voters(checkpoint, check_roster(checkpoint, self._first_notes))
        if checkpoint.maker not in checkpoint.roster:
            raise RemoteProtocolError(f"{checkpoint.maker} made a checkpoint and is not in its roster")
        return Held(signed.body_hash, checkpoint, raw)

    def check_commit(self, message: Commit) -> tuple[Held, int]:
        """The checkpoint that a commit proves, and the term it was committed under.

        Raises:
            RemoteProtocolError: a certificate does not hold.
            MissedChanges: it may hold, but we cannot know that these are the voters.
        """
        held = self.open_held(message.checkpoint)
        if held.checkpoint.round != message.round:
            raise RemoteProtocolError("A commit's round is not its checkpoint's")
        self._check_updates(held.checkpoint)
        voters = self._voters_after(message.changes)
        if not differ_by_one_at_most(voters, held.checkpoint.voters):
            raise MissedChanges
        return held, self._check_certificate(held, message.acks)

    def _check_certificate(self, held: Held, acks: tuple[bytes, ...]) -> int:
        checkpoint = held.checkpoint
        return check_certificate(acks, self.context.run, checkpoint.round, held.name, checkpoint.voters)

    def _voters_after(self, changes: Iterable[VotersChanged]) -> tuple[str, ...]:
        """The voters that a chain of certified changes leads to from those that we know to be committed."""
        voters = self.newest.voters
        for change in changes:
            held = self.open_held(change.checkpoint)
            if held.checkpoint.round <= self.committed_round:
                continue
            if not differ_by_one_at_most(voters, held.checkpoint.voters):
                raise RemoteProtocolError("A chain of voters' changes has a gap")
            self._check_certificate(held, change.acks)
            voters = held.checkpoint.voters
        return voters

    def _check_succession(self, held: Held) -> None:
        """A checkpoint follows the newest committed one, or is it (§8.5)."""
        round_number = held.checkpoint.round
        if round_number < self.committed_round:
            raise RemoteProtocolError(f"A checkpoint of round {round_number}, but {self.committed_round} is committed")
        if self.committed is None:
            if round_number == 1 and held.checkpoint.previous != self.zero.name:
                raise RemoteProtocolError("The first round's checkpoint does not build on the starting one")
        elif round_number == self.committed_round:
            if held.name != self.committed.name:
                raise RemoteProtocolError(f"Another checkpoint is already committed for round {round_number}")
        elif round_number == self.committed_round + 1 and held.checkpoint.previous != self.committed.name:
            raise RemoteProtocolError("A checkpoint does not build on the committed one before it")
        if held.checkpoint.outcome == "stopped" and held.checkpoint.previous == (self.committed or self.zero).name:
            check_stop(held.checkpoint, self.newest)
        if not differ_by_one_at_most(self.newest.voters, held.checkpoint.voters):
            if round_number <= self.committed_round + 1:
                raise RemoteProtocolError("A checkpoint changes more than one voter")
            raise MissedChanges
        self._check_updates(held.checkpoint)

    def _check_updates(self, checkpoint: Checkpoint) -> None:
        _check_entries(checkpoint, self.context.settings.late_are_used)
        base = self.committed_before(checkpoint)
        if base is not None and self.context.settings.late_are_used:
            check_late_updates(checkpoint, base)

    # --- keeping -------------------------------------------------------------------------------------------------
    def store(self, term: int, held: Held, issue: bytes) -> None:
        """`held` is durable here under the issue of `term`. The record comes before any acknowledgement (§8.4)."""
        self._became_durable(held)
        self.stored, self.stored_term, self.stored_issue = held, term, issue
        self._follow_voters()
        self.context.persist(StoredRecord(issue=issue, checkpoint=held.raw))

    def commit(
        self,
        term: int,
        held: Held,
        acks: tuple[bytes, ...],
        changes: tuple[VotersChanged, ...] = (),
        reports: tuple[bytes, ...] = (),
    ) -> None:
        """`held` is durable here and committed. `changes` are the changes of voters that we had missed, `reports` what
        came with the commit."""
        self._became_durable(held)
        for change in changes:
            round_number = self.open_held(change.checkpoint).checkpoint.round
            if self.committed_round < round_number < held.checkpoint.round:
                self.changes.append((round_number, change))
                self.context.persist(ChangeRecord(checkpoint=change.checkpoint, acks=change.acks))
        self._take_commit(term, held, acks, reports)
        self.context.out.append(Persist(_committed_record(held.raw, acks, reports)))

    def keep_reports(self, reports: tuple[bytes, ...]) -> None:
        """The run's last reports, which no commit brings any more, go into the journal; each once, and that none
        came, too (§9.1)."""
        if self.committed is None or not self.has_ended:
            return
        new, kept = believed_reports(reports, self.committed.name, self.committed.checkpoint), self.last_reports
        if kept:
            new = tuple(raw for raw in new if not _subjects((raw,)) <= kept)
        if new or kept is None:
            self.restore_reports(new)
            self.context.out.append(Persist(_reports_record(new)))

    def restore_stored(self, record: StoredRecord) -> None:
        held = self.open_held(record.checkpoint)
        self._became_durable(held)
        self.stored, self.stored_term = held, open_issue(record.issue).body.term
        self.stored_issue = record.issue
        self._follow_voters()

    def restore_committed(self, record: CommittedRecord) -> None:
        held = self.open_held(record.checkpoint)
        self._became_durable(held)
        self._take_commit(open_ack(record.acks[0]).body.term, held, record.acks, record.reports)

    def restore_reports(self, reports: tuple[bytes, ...]) -> None:
        self.last_reports = _subjects(reports) | self.last_reports if self.last_reports else _subjects(reports)

    def restore_change(self, record: ChangeRecord) -> None:
        change = VotersChanged(checkpoint=record.checkpoint, acks=record.acks)
        self.changes.append((self.open_held(record.checkpoint).checkpoint.round, change))

    def changes_since(self, round_number: int) -> tuple[VotersChanged, ...]:
        """The changes of voters that somebody has missed whose newest commit is of `round_number`."""
        return tuple(change for at, change in self.changes if at > round_number)

    def newest_commit(self, *, changes: tuple[VotersChanged, ...] = ()) -> Commit:
        """The newest commit as a message, with the reports that came with it; there must be one."""
        assert self.committed is not None
        return Commit(
            run=self.context.run,
            round=self.committed.checkpoint.round,
            checkpoint=self.committed.raw,
            acks=self.certificate,
            changes=changes,
            reports=self.reports,
        )

    def _take_commit(self, term: int, held: Held, acks: tuple[bytes, ...], reports: tuple[bytes, ...]) -> None:
        if set(held.checkpoint.voters) != set(self.newest.voters) and held.raw:
            self.changes.append((held.checkpoint.round, VotersChanged(checkpoint=held.raw, acks=acks)))
        if self.committed is not None and self.committed.name != held.name:
            self._committed_before = self.committed
        if self.committed is None or self.committed.name != held.name:
            self.reports, self.last_reports = (), None
        self.reports = reports or self.reports
        self.committed, self.certificate = held, acks
        position, stored = (term, held.checkpoint.round), (self.stored_term, self.stored.checkpoint.round)
        # Of two checkpoints that a liar issued for one round in one term, the committed one counts.
        if position > stored or (position == stored and held.name != self.stored.name):
            self.stored, self.stored_term, self.stored_issue = held, term, b""
        self._follow_voters()

    def _follow_voters(self) -> None:
        """The newest stored voters count, committed or not (§8.13)."""
        self.context.voters = tuple(NodeId(node) for node in self.stored.checkpoint.voters)
        stored = check_roster(self.stored.checkpoint, self._first_notes)
        self.context.eligible = _eligible(self._first_notes, stored, self.notes())

    def _became_durable(self, held: Held) -> None:
        if held.name == self.zero.name:
            self.zero_is_durable = True


@remembered(_REMEMBERED)
def _notes_by_node(start: RunStart) -> Mapping[NodeId, Ready]:
    return {NodeId(note.node): note for note in ready_notes(start)}


@remembered(_REMEMBERED)
def _eligible(*notes: Mapping[NodeId, Ready]) -> frozenset[NodeId]:
    """Everybody in `notes` who may vote, the last note of each counting."""
    known = {node: note for some in notes for node, note in some.items()}
    return frozenset(node for node, note in known.items() if note.role != "observer")


@lru_cache(maxsize=_REMEMBERED)
def _committed_record(checkpoint: bytes, acks: tuple[bytes, ...], reports: tuple[bytes, ...]) -> bytes:
    return pack(CommittedRecord(checkpoint=checkpoint, acks=acks, reports=reports))


@lru_cache(maxsize=_REMEMBERED)
def _subjects(reports: tuple[bytes, ...]) -> frozenset[tuple[str, int]]:
    bodies = (open_report(raw).body for raw in reports)
    return frozenset((body.node, body.round) for body in bodies)


@lru_cache(maxsize=_REMEMBERED)
def _reports_record(reports: tuple[bytes, ...]) -> bytes:
    return pack(ReportsRecord(reports=reports))


@remembered(_REMEMBERED)
def _check_entries(checkpoint: Checkpoint, late_are_used: bool) -> None:
    """Every update in a checkpoint is one node's signed offer of that round from that base, used or refused (§8.3)."""
    nodes: set[str] = set()
    for entry in checkpoint.updates:
        offer = open_offer(entry.offer).body
        late = late_are_used and is_late(offer, checkpoint.round)
        in_time = offer.round == checkpoint.round
        if offer.run != checkpoint.run or not (in_time or late) or offer.node not in checkpoint.roster:
            raise RemoteProtocolError("A checkpoint lists an update of another run, round or roster")
        if offer.node in nodes:
            raise RemoteProtocolError(f"A checkpoint lists two updates of {offer.node}")
        if _is_used(entry) and not late and offer.base != checkpoint.previous:
            raise RemoteProtocolError("A checkpoint uses an update that was learned from another base")
        if _is_used(entry) != (entry.weight > 0):
            raise RemoteProtocolError("A used update has no weight, or a refused one has")
        nodes.add(offer.node)
    if checkpoint.round and checkpoint.outcome != "stopped" and not any(map(_is_used, checkpoint.updates)):
        raise RemoteProtocolError("A round's checkpoint is made of no update")


def _is_last(checkpoint: Checkpoint) -> bool:
    return checkpoint.outcome in ("", "finished") and checkpoint.round >= checkpoint.rounds


def _is_used(entry: UpdateEntry) -> bool:
    return entry.refused == ""
