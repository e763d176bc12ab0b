"""What must hold of every message that leaves a node of a run, looked at from outside: by its journal, by the blobs
that are durable there, and by what all nodes together have done. docs/protocol.md §7 and §8.

Nothing here trusts the machine's own bookkeeping: the journal's records and the certificates are read again.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from protocol.keys import Hash, NodeId
from protocol.run.checkpoint import NOTHING, Checkpoint, open_ack, open_checkpoint, open_issue, open_offer
from protocol.run.journal import ChangeRecord, CommittedRecord, OfferRecord, StoredRecord, TermRecord, read_record
from protocol.run.messages import (
    Acknowledgement,
    Commit,
    Heartbeat,
    HeartbeatReply,
    OfferMessage,
    PreVoteReply,
    Proposal,
    RunMessage,
    VoteReply,
    VoteRequest,
)

Position = tuple[int, int]  # (term, round)


class Broken(AssertionError):
    """An invariant does not hold."""


@lru_cache(maxsize=65_536)
def _certificate_facts(acks: tuple[bytes, ...]) -> frozenset[tuple[int, int, str, str]]:
    """(term, round, checkpoint, node) of every acknowledgement."""
    bodies = [open_ack(raw).body for raw in acks]
    return frozenset((body.term, body.round, body.checkpoint, body.node) for body in bodies)


@lru_cache(maxsize=65_536)
def _signed_checkpoint(raw: bytes) -> tuple[Hash, Checkpoint]:
    signed = open_checkpoint(raw)
    return signed.body_hash, signed.body


@dataclass
class Durable:
    """What a node's journal says, kept up to date record by record."""

    term: int = 0
    voted_for: str | None = None
    stored: dict[Hash, int] = field(default_factory=dict)  # the highest term of its issues, by name
    committed: dict[Hash, int] = field(default_factory=dict)  # the term of its newest certificate, by name
    offers: set[bytes] = field(default_factory=set)
    newest: Hash = NOTHING  # of what is stored, by (term, round)
    position: Position = (0, 0)


@dataclass
class Invariants:
    """Handed every record that became durable, every message that was sent and every commit, in their order.

    `zero` names the starting checkpoint, `model` its model; `voters` are all nodes of the world, and the starting
    voters.
    """

    zero: Hash
    model: str
    voters: tuple[NodeId, ...]
    durable: dict[NodeId, Durable] = field(default_factory=dict)
    votes: dict[tuple[NodeId, int], str] = field(default_factory=dict)
    reigns: dict[int, NodeId] = field(default_factory=dict)
    committed: dict[int, Hash] = field(default_factory=dict)  # by round
    previous: dict[int, str] = field(default_factory=dict)  # what the committed checkpoint of a round builds on
    positions: dict[Position, Hash] = field(default_factory=dict)  # of all certificates seen, (term, round)
    offered: dict[tuple[NodeId, str], str] = field(default_factory=dict)
    models: dict[Hash, str] = field(default_factory=dict)  # of checkpoints, by name
    electorates: dict[Hash, tuple[str, ...]] = field(default_factory=dict)  # the voters of checkpoints, by name
    rounds: dict[Hash, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.durable = {node: Durable(newest=self.zero) for node in self.voters}
        self.electorates[self.zero], self.models[self.zero] = self.voters, self.model
        self.rounds[self.zero] = 0

    # --- what becomes durable ------------------------------------------------------------------------------------
    def on_record(self, node: NodeId, raw: bytes) -> None:
        mine = self.durable[node]
        match read_record(raw):
            case TermRecord(term=term, voted_for=voted_for):
                if term < mine.term:
                    raise Broken(f"§7.4: {node} went back from term {mine.term} to {term}")
                mine.term, mine.voted_for = term, voted_for
                if voted_for is not None and self.votes.setdefault((node, term), voted_for) != voted_for:
                    raise Broken(f"§7.3: {node} voted twice in term {term}")
            case StoredRecord(issue=issue, checkpoint=checkpoint):
                body = open_issue(issue).body
                if body.term < mine.term:
                    raise Broken(f"§8.4: {node} took over a checkpoint of term {body.term} in term {mine.term}")
                self._hold(mine, self._name(checkpoint), body.term)
            case CommittedRecord(checkpoint=checkpoint, acks=acks):
                name = self._name(checkpoint)
                mine.committed[name] = self._check_certificate(name, acks)
                self._hold(mine, name, mine.committed[name])
            case ChangeRecord(checkpoint=checkpoint, acks=acks):
                self._check_certificate(self._name(checkpoint), acks)
            case OfferRecord(offer=offer):
                mine.offers.add(offer)

    def _hold(self, mine: Durable, name: Hash, term: int) -> None:
        mine.stored[name] = max(term, mine.stored.get(name, 0))
        if (term, self.rounds[name]) >= mine.position:
            mine.position, mine.newest = (term, self.rounds[name]), name

    # --- what is said --------------------------------------------------------------------------------------------
    def on_send(self, node: NodeId, peer: NodeId, message: RunMessage, blobs: set[str]) -> None:
        """`blobs` are what is durable at `node` besides its journal."""
        mine = self.durable[node]
        match message:
            case VoteRequest(term=term):
                self._check_vote(node, node, term)
            case VoteReply(term=term, granted=True):
                self._check_vote(node, peer, term)
            case VoteReply(term=term) | HeartbeatReply(term=term) | PreVoteReply(term=term, granted=False):
                if term != mine.term:
                    raise Broken(f"§7.4: {node} speaks in term {term}, and would wake up in {mine.term}")
            case Heartbeat(term=term, committed=committed):
                if self.reigns.get(term) != node:
                    raise Broken(f"§7.6: {node} sends heartbeats of term {term} and was not elected in it")
                if committed and committed not in mine.committed:
                    raise Broken(f"§8.6: {node} speaks of a commit that it may forget")
            case Proposal(issue=issue, checkpoint=checkpoint):
                self._check_stored(node, self._name(checkpoint), open_issue(issue).body.term, blobs)
            case Acknowledgement(ack=raw):
                ack = open_ack(raw).body
                if ack.term != mine.term:
                    raise Broken(f"§8.4: {node} acknowledges in term {mine.term} what was issued in term {ack.term}")
                self._check_stored(node, Hash(ack.checkpoint), ack.term, blobs)
            case Commit(checkpoint=checkpoint, acks=acks):
                name = self._name(checkpoint)
                self._check_certificate(name, acks)
                if name not in mine.committed:
                    raise Broken(f"§8.6: {node} announces a commit that it may forget")
            case OfferMessage(offer=raw):
                self._check_offer(node, raw)

    def _check_vote(self, voter: NodeId, candidate: NodeId, term: int) -> None:
        mine = self.durable[voter]
        if (mine.term, mine.voted_for) != (term, candidate):
            raise Broken(f"§7.3: {voter} votes in term {term} and may forget it: {mine.term}, {mine.voted_for}")

    def _check_stored(self, node: NodeId, name: Hash, term: int, blobs: set[str]) -> None:
        if self.durable[node].stored.get(name, -1) < term:
            raise Broken(f"§8.4: {node} stands for a checkpoint of term {term} and may forget it")
        if self.models.get(name) not in blobs:
            raise Broken(f"§8.4: {node} stands for a checkpoint that is not durable there")

    def _check_offer(self, node: NodeId, raw: bytes) -> None:
        offer = open_offer(raw).body
        if raw not in self.durable[node].offers:
            raise Broken(f"§8.8: {node} offers an update that it may forget")
        if self.offered.setdefault((node, offer.base), offer.update) != offer.update:
            raise Broken(f"§8.8: {node} offers two updates that were learned from one base")

    # --- what is decided -----------------------------------------------------------------------------------------
    def on_elected(self, node: NodeId, term: int, aggregator: NodeId | None, stored: Position) -> None:
        """`stored` is the newest checkpoint that `node` holds."""
        if aggregator is None:
            return
        if self.reigns.setdefault(term, aggregator) != aggregator:
            raise Broken(f"§7.1: two aggregators in term {term}")
        if node != aggregator:
            return
        voters = self.electorates[self.durable[node].newest]
        votes = sum(1 for voter in voters if self.votes.get((NodeId(voter), term)) == node)
        if 2 * votes <= len(voters):
            raise Broken(f"§7.10: {node} is elected in term {term} by {votes} of {len(voters)}")
        newest = max((position for position in self.positions if position[0] < term), default=(0, 0))
        if stored < newest:
            raise Broken(f"§7.7: {node} is elected in term {term} with {stored}, and {newest} is committed")

    def on_combine(self, node: NodeId, term: int, base: Hash) -> None:
        if self.durable[node].committed.get(base) != term:
            raise Broken(f"§8.1: {node} gathers updates on a base that is not committed in its term {term}")

    def on_commit(self, node: NodeId, name: Hash, checkpoint: Checkpoint) -> None:
        if self.durable[node].committed.get(name) is None:
            raise Broken(f"§8.6: {node} takes a commit for final and may forget it")
        self._check_chain(name, checkpoint)

    def _check_chain(self, name: Hash, checkpoint: Checkpoint) -> None:
        number = checkpoint.round
        if self.committed.setdefault(number, name) != name:
            raise Broken(f"§8.5: two checkpoints committed for round {number}")
        self.previous.setdefault(number, checkpoint.previous)
        for later in (number, number + 1):
            before = self.committed.get(later - 1)
            after = self.committed.get(later)
            if before is not None and after is not None:
                changed = set(self.electorates[before]) ^ set(self.electorates[after])
                if len(changed) > 1:
                    raise Broken(f"§8.13: {len(changed)} voters change in round {later}")
            if before is not None and self.previous.get(later, before) != before:
                raise Broken(f"§8.5: round {later} does not build on the committed round before it")

    def _check_certificate(self, name: Hash, acks: tuple[bytes, ...]) -> int:
        """The term of a certificate, which more than half of the voters must have signed, and still hold."""
        facts = _certificate_facts(acks)
        best = max(facts, default=None)
        signers = {fact[3] for fact in facts if best is not None and fact[:2] == best[:2] and fact[2] == name}
        voters = self.electorates[name]
        if best is None or 2 * len(signers & set(voters)) <= len(voters):
            raise Broken(f"§8.6: {len(signers)} acknowledgements of one term are no majority of {len(voters)}")
        term, number = best[:2]
        if self.positions.setdefault((term, number), name) != name:
            raise Broken(f"§8.5: two checkpoints committed for round {number} in term {term}")
        for node in signers:
            if self.durable[NodeId(node)].stored.get(name, -1) < term:
                raise Broken(f"§8.4: {node} has acknowledged round {number} in term {term} and may forget it")
        return term

    def _name(self, checkpoint: bytes) -> Hash:
        if not checkpoint:
            return self.zero
        name, body = _signed_checkpoint(checkpoint)
        self.models[name] = body.model
        self.electorates[name], self.rounds[name] = body.voters, body.round
        return name
