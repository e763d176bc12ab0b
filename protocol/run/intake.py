"""Checkpoints on their way in from others: proposals to acknowledge once durable, commits to take over once whole.

docs/protocol.md §8.4 to §8.6.
"""

from dataclasses import dataclass

from protocol.keys import Hash, NodeId
from protocol.run.audit import Audit
from protocol.run.checkpoint import Ack, Checkpoint, open_ack, open_issue
from protocol.run.context import RunContext
from protocol.run.election import Election
from protocol.run.events import Obtain, Obtained, Recomputed
from protocol.run.history import believed_reports
from protocol.run.ledger import Held, Ledger, MissedChanges
from protocol.run.messages import Acknowledgement, Commit, Proposal, VotersChanged
from protocol.run.voters import lot

# A commit that could not be obtained is tried again so soon: its holders are the same nodes, and they come back.
OBTAIN_AGAIN_S = 1.0
WHOLE_EVERY = 3  # tries


@dataclass(frozen=True, slots=True)
class Commitment:
    """A committed checkpoint: under which term, by which certificate, after which changes of voters, with which
    reports."""

    held: Held
    term: int
    acks: tuple[bytes, ...]
    changes: tuple[VotersChanged, ...] = ()
    reports: tuple[bytes, ...] = ()


class Intake:
    """What this node is about to hold. `on_…` give a commitment when one is whole here and new."""

    def __init__(self, context: RunContext, ledger: Ledger, election: Election, audit: Audit) -> None:
        self.context = context
        self.audit = audit
        self.ledger = ledger
        self.election = election
        self._commitment: Commitment | None = None
        self._tries = 0  # to obtain it that have failed
        self._under_way: list[Hash] = []  # what is being obtained: twice where it is committed meanwhile
        self.ended_without_us: Checkpoint | None = None  # the run's last, which is not for us to fetch
        self._proposal: tuple[Held, int, bytes, NodeId] | None = None

    @property
    def awaits_commit(self) -> bool:
        return self._commitment is not None

    @property
    def has_proposal(self) -> bool:
        """Whether one is being fetched or recomputed."""
        return self._proposal is not None

    # --- proposals -----------------------------------------------------------------------------------------------
    def on_proposal(self, peer: NodeId, message: Proposal) -> None:
        """Obtain what the aggregator of our term proposes, unless we hold something newer. The caller has checked that
        `peer` is to be obeyed. Raises RemoteProtocolError, or MissedChanges."""
        spoken = open_issue(message.issue).body
        if spoken.round < self.ledger.committed_round:
            return  # it was long on its way; meanwhile another node told us of a later commit
        term = spoken.term
        issue, held = self.ledger.check_proposal(peer, message)
        position = (term, held.checkpoint.round)
        stored = (self.ledger.stored_term, self.ledger.stored.checkpoint.round)
        if held.checkpoint.round > max(0, self.ledger.committed_round) + 1 and held.name != self.ledger.stored.name:
            raise MissedChanges  # what it builds on must be committed here first (§8.5)
        if position < stored or not self._is_asked_for(held):
            return
        if position == stored:
            self._on_proposal_again(peer, held, term, issue.raw)
            return
        # From the same peer; the one that proposed it before may be gone, and another reigns who has it.
        is_under_way = self._proposal is not None and self._proposal[0].name == held.name and self._proposal[3] == peer
        self._look_for_two_issues(peer, held, term, issue.raw)
        self._proposal = (held, term, issue.raw, peer)
        if not is_under_way:
            self._obtain(held, (peer, *self.ledger.roster()))

    def _is_asked_for(self, held: Held) -> bool:
        """Whether our copy of the group's log asks for what a checkpoint makes of the run's length (§8.15), and has
        everybody whom it takes in; and whether the configuration has room for them (§6.4)."""
        base = self.ledger.committed or self.ledger.zero
        if held.name == self.ledger.stored.name or held.checkpoint.previous != base.name:
            return True
        entered = set(held.checkpoint.roster) - set(base.checkpoint.roster)
        are_members = all(self.context.is_member(NodeId(node)) for node in entered)
        have_room = not entered or len(held.checkpoint.roster) <= self.context.settings.nodes_max
        return are_members and have_room and self.context.directions.allow(held.checkpoint, base.checkpoint)

    def _on_proposal_again(self, peer: NodeId, held: Held, term: int, issue: bytes) -> None:
        stored = self.ledger.stored
        if held.name == stored.name:
            self._acknowledge(peer, held, term)
        elif self.ledger.stored_issue:
            self.audit.on_two_issues(peer, self.ledger.stored_issue, issue)

    def _look_for_two_issues(self, peer: NodeId, held: Held, term: int, issue: bytes) -> None:
        """While one proposal is being fetched or recomputed, does its issuer make another for the same round?"""
        if self._proposal is None:
            return
        other, other_term, other_issue, other_peer = self._proposal
        at = (term, held.checkpoint.round, peer)
        if at == (other_term, other.checkpoint.round, other_peer) and held.name != other.name:
            self.audit.on_two_issues(peer, other_issue, issue)

    def _on_proposal_obtained(self, ok: bool) -> None:
        assert self._proposal is not None
        held, _, _, peer = self._proposal
        if not ok:
            self._proposal = None
        elif not self.audit.must_recompute(held):
            self._take_proposal()
        elif not self.audit.recompute(held, peer):
            self._proposal = None  # it is said again, and the commit before it is on its way

    def on_recomputed(self, event: Recomputed) -> None:
        if self._proposal is None or self._proposal[0].name != event.checkpoint:
            return
        if event.verdict is None:
            self._proposal = None  # it is said again with the next heartbeat
        else:
            self._take_proposal()

    def _take_proposal(self) -> None:
        """Store what is proposed and acknowledge it, if nothing speaks against it. The term is looked at again: while
        the chunks came, we may have voted for another (§8.4)."""
        assert self._proposal is not None
        held, term, issue, peer = self._proposal
        self._proposal = None
        is_current = term == self.election.term and held.checkpoint.round >= self.ledger.committed_round
        if is_current and self.audit.may_acknowledge(held, peer, issue):
            self.ledger.store(term, held, issue)
            self._acknowledge(peer, held, term)

    def _acknowledge(self, peer: NodeId, held: Held, term: int) -> None:
        ack = Ack(
            run=self.context.run,
            term=term,
            round=held.checkpoint.round,
            checkpoint=held.name,
            node=self.context.me,
        )
        self.context.send(peer, Acknowledgement(run=self.context.run, ack=self.context.sign(ack)))

    # --- commits -------------------------------------------------------------------------------------------------
    def on_commit(self, message: Commit) -> Commitment | None:
        """Check a commit. Raises as Ledger.check_commit."""
        if message.round < self.ledger.committed_round:
            return None
        held, term = self.ledger.check_commit(message)
        self.audit.compare(self.ledger.stored, held)
        if message.round == self.ledger.committed_round:
            self._check_fork(held)
            return None
        ends = self.context.directions.end_at(held.name, held.checkpoint)
        if ends and self.context.me not in held.checkpoint.roster:
            self.ended_without_us = held.checkpoint
            self._commitment = self._proposal = None  # nobody would give us what we still wait for
            return None
        reports = believed_reports(message.reports, held.name, held.checkpoint)
        commitment = Commitment(held, term, message.acks, message.changes, reports)
        if self.ledger.stored.name == held.name and self.ledger.is_durable(held):
            return commitment
        if self._commitment is None or self._commitment.held.checkpoint.round < message.round:
            self._commitment, self._tries = commitment, 0
            self._obtain(held, self._holders(commitment))
        return None

    def _holders(self, commitment: Commitment) -> tuple[NodeId, ...]:
        """Those who have acknowledged it, so hold it whole; each node begins with another, and all share the work."""
        holders = [NodeId(open_ack(raw).body.node) for raw in commitment.acks]
        begin = int(lot(self.context.me, commitment.held.name), 16) % max(1, len(holders))
        return (*holders[begin:], *holders[:begin])

    def _check_fork(self, held: Held) -> None:
        committed = self.ledger.committed
        if committed is not None and held.name != committed.name:
            what = f"two checkpoints are committed for round {held.checkpoint.round}: voters have lied"
            self.audit.keep(NodeId(held.checkpoint.maker), what, committed.raw, held.raw)

    def on_obtained(self, event: Obtained) -> Commitment | None:
        name, ok = event.checkpoint, event.ok
        if name in self._under_way:
            self._under_way.remove(name)
        if self._proposal is not None and self._proposal[0].name == name and not event.may_lack_state:
            self._on_proposal_obtained(ok)
        if self._commitment is None or self._commitment.held.name != name:
            return None
        if not ok:
            if name not in self._under_way:
                self.context.set_timer("obtain", OBTAIN_AGAIN_S)
            return None
        commitment, self._commitment = self._commitment, None
        return commitment

    def on_obtain_timer(self) -> None:
        """Try again to have what is committed, every third time whole: who committed it may hold its difference no
        more, nor, of a run that is over, its server state (§8.6). Not at once, for lines break, and the whole is many
        times as long."""
        if self._commitment is not None and self._commitment.held.name not in self._under_way:
            self._tries += 1
            among = (*self._holders(self._commitment), *self.ledger.roster())
            self._obtain(self._commitment.held, among, whole=self._tries % WHOLE_EVERY == WHOLE_EVERY - 1)

    def _obtain(self, held: Held, among: tuple[NodeId, ...], *, whole: bool = False) -> None:
        committed = self.ledger.committed
        is_next = committed is not None and committed.name == held.checkpoint.previous
        previous = committed.checkpoint if committed is not None and is_next and not whole else None
        may_lack_state = whole and self.context.directions.end_at(held.name, held.checkpoint)
        sources = tuple(node for node in dict.fromkeys(among) if node != self.context.me)
        self._under_way.append(held.name)
        self.context.out.append(Obtain(held.name, held.checkpoint, previous, sources, may_lack_state))
