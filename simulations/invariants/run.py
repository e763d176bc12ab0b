"""What must hold of a run whatever fails, checked after every message that leaves a node and every record it keeps.

A dumb twin of the group: it knows what lies on each disk because it saw it written, and what each node has said because
it saw it sent. It follows docs/protocol.md §7 and §8, not the nodes' code, and trusts no node's own bookkeeping.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import trio

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.run.checkpoint import open_ack
from simulations.world.watch import Happening, checkpoint_hash, signed_body

Position = tuple[int, int]  # (term, round)
NOTHING = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant did not hold. `rule` is its short name; `time` is virtual, in seconds."""

    rule: str
    what: str
    node: str
    time: float


class Broken(Exception):
    """Raised within a checker: (rule, what)."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule, self.what = rule, what


@dataclass(slots=True)
class Durable:
    """What lies in one node's journal of the run."""

    term: int = 0
    voted_for: str | None = None
    stored: dict[str, int] = field(default_factory=dict)  # the highest term of its issues, by checkpoint
    committed: dict[str, int] = field(default_factory=dict)  # the round, by checkpoint
    offers: set[bytes] = field(default_factory=set)
    position: Position = (0, 0)  # of the newest stored
    positions: set[Position] = field(default_factory=set)  # of all that were ever stored
    newest: str = NOTHING
    committed_round: int = -1


@dataclass(slots=True)
class Facts:
    """What is known of one checkpoint."""

    round: int
    previous: str
    voters: tuple[str, ...]
    model: str
    outcome: str
    roster: tuple[str, ...] = ()
    contributors: tuple[str, ...] = ()  # whose updates are in it


class Invariants:
    """Hand it everything that happens. `violation` is the first that was found; nothing is looked at after it.

    Args:
        start: the starting checkpoint's name and facts, as they follow from the run's signed start; asked when the
            first checkpoint shows up.
        holds: whether a blob lies whole on a node's disk now.
        liars: nodes that are told to lie, whose own words are not held against them; what all believe still is.
    """

    def __init__(
        self,
        start: Callable[[], tuple[str, "Facts"]],
        holds: Callable[[NodeId, str], bool],
        liars: frozenset[NodeId] = frozenset(),
    ) -> None:
        self.violation: Violation | None = None
        self.durable: dict[NodeId, Durable] = {}
        self.votes: dict[tuple[NodeId, int], str] = {}
        self.reigns: dict[int, NodeId] = {}
        self.committed: dict[int, str] = {}  # by round
        self.certified: dict[Position, str] = {}
        self.checkpoints: dict[str, Facts] = {}
        self.offered: dict[tuple[NodeId, str], str] = {}
        self.commit_times: list[tuple[float, int]] = []  # (virtual time, round) of each first certificate
        self.deposed: set[NodeId] = set()  # by anybody
        self.lied: set[NodeId] = set()  # liars that have proposed a checkpoint of their own
        self.outcome = ""
        self._start = start
        self._holds = holds
        self._liars = liars
        self._zero = NOTHING  # the starting checkpoint's name, once somebody speaks of it

    @property
    def committed_round(self) -> int:
        """-1 before the starting checkpoint is committed."""
        return max(self.committed, default=-1)

    @property
    def voters(self) -> tuple[str, ...]:
        """Of the newest committed checkpoint; none before the first."""
        return self._facts(self.committed[self.committed_round]).voters if self.committed else ()

    def roster_of(self, name: str) -> tuple[str, ...]:
        return self.checkpoints[name].roster if name in self.checkpoints else ()

    def contributors_of(self, name: str) -> tuple[str, ...]:
        return self.checkpoints[name].contributors if name in self.checkpoints else ()

    def on_happening(self, happening: Happening) -> None:
        if self.violation is not None:
            return
        try:
            if happening.kind == "keeps":
                self.on_record(happening.node, happening.what)
            elif happening.kind == "sends" and happening.node in self._liars:
                self._on_liars_message(happening.node, happening.what)
            elif happening.kind == "sends":
                self.on_message(happening.node, happening.peer, happening.what)
        except Broken as broken:
            self.report(broken.rule, broken.what, happening.node)

    def _on_liars_message(self, node: NodeId, message: Any) -> None:
        if message["kind"] == "proposal" and message["checkpoint"]:
            body = signed_body(message["checkpoint"])
            if body["maker"] == node and body["updates"]:
                self.lied.add(node)

    def report(self, rule: str, what: str, node: str = "") -> None:
        """Keep a violation, if it is the first."""
        if self.violation is None:
            self.violation = Violation(rule, what, node, trio.current_time())

    # --- what becomes durable ------------------------------------------------------------------------------------
    def on_record(self, node: NodeId, record: Any) -> None:
        mine = self.durable.setdefault(node, Durable())
        match record:
            case {"kind": "term", "term": int(term), "voted_for": voted_for}:
                self._on_term(node, mine, term, voted_for)
            case {"kind": "stored", "issue": bytes(issue), "checkpoint": bytes(checkpoint)}:
                self._hold(mine, self._name(checkpoint), signed_body(issue)["term"])
            case {"kind": "committed", "checkpoint": bytes(checkpoint), "acks": acks}:
                name = self._name(checkpoint)
                term = self._check_certificate(name, acks)
                mine.committed[name] = self._facts(name).round
                mine.committed_round = max(mine.committed_round, self._facts(name).round)
                self._hold(mine, name, term)
            case {"kind": "offer", "offer": bytes(offer)}:
                mine.offers.add(offer)
            case {"kind": "evidence", "node": str(accused), "deposes": True, "what": what}:
                if accused not in self._liars:
                    raise Broken("only liars are deposed", f"it deposes {accused}: {what}")
                self.deposed.add(NodeId(accused))

    def _on_term(self, node: NodeId, mine: Durable, term: int, voted_for: str | None) -> None:
        if term < mine.term:
            raise Broken("terms only grow", f"it went back from term {mine.term} to {term}")
        mine.term, mine.voted_for = term, voted_for
        if voted_for is not None:
            before = self.votes.setdefault((node, term), voted_for)
            if before != voted_for:
                raise Broken("votes never change", f"it voted in term {term} for {before}, then for {voted_for}")

    def _hold(self, mine: Durable, name: str, term: int) -> None:
        mine.stored[name] = max(term, mine.stored.get(name, 0))
        position = (term, self._facts(name).round)
        mine.positions.add(position)
        if position >= mine.position:
            mine.position, mine.newest = position, name

    def on_restart(self, node: NodeId, records: list[Any]) -> None:
        """A node is back with these records: what it had made durable must be among them. §7.3, §8.4."""
        before = self.durable.get(node)
        if before is None or self.violation is not None:
            return
        self.durable[node] = now = Durable()
        try:
            for record in records:
                self.on_record(node, record)
            if not _keeps(now, before):
                raise Broken("nothing durable is lost", "its journal lacks what it had written before it was killed")
        except Broken as broken:
            self.report(broken.rule, broken.what, node)

    # --- what is said --------------------------------------------------------------------------------------------
    def on_message(self, node: NodeId, peer: NodeId, message: Any) -> None:
        mine = self.durable.setdefault(node, Durable())
        match message:
            case {"kind": "vote", "term": int(term)}:
                self._check_vote(node, node, term)
            case {"kind": "vote-reply", "term": int(term), "granted": True}:
                self._check_vote(node, peer, term)
            case {"kind": "heartbeat-reply" | "vote-reply", "term": int(term)}:
                if term > mine.term:
                    raise Broken("persist before send", f"it speaks in term {term} and would wake up in {mine.term}")
            case {"kind": "heartbeat", "term": int(term), "committed": committed}:
                self._check_reign(node, term)
                if committed and committed not in mine.committed:
                    raise Broken("persist before send", "its heartbeat names a commit that it may forget")
            case {"kind": "proposal", "issue": bytes(issue), "checkpoint": bytes(checkpoint)}:
                term = signed_body(issue)["term"]
                self._check_reign(node, term)
                self._check_stored(node, self._name(checkpoint), term)
            case {"kind": "ack", "ack": bytes(raw)}:
                ack = signed_body(raw)
                self._check_stored(node, ack["checkpoint"], ack["term"])
            case {"kind": "commit", "checkpoint": bytes(checkpoint), "acks": acks}:
                name = self._name(checkpoint)
                self._check_certificate(name, acks)
                if name not in mine.committed:
                    raise Broken("persist before send", "it announces a commit that it may forget")
            case {"kind": "offer", "offer": bytes(raw)}:
                self._check_offer(node, raw)

    def _check_vote(self, voter: NodeId, candidate: NodeId, term: int) -> None:
        kept = self.votes.get((voter, term))
        if kept is None:
            raise Broken("persist before send", f"it votes in term {term} and may forget it")
        if kept != candidate:
            raise Broken("votes never change", f"it grants term {term} to {candidate} and kept a vote for {kept}")

    def _check_reign(self, node: NodeId, term: int) -> None:
        known = self.reigns.get(term)
        if known == node:
            return
        if known is not None:
            raise Broken("one aggregator a term", f"it reigns in term {term}, in which {known} does")
        self.reigns[term] = node
        electors = self._facts(self.durable[node].newest).voters
        votes = sum(1 for voter in electors if self.votes.get((NodeId(voter), term)) == node)
        if 2 * votes <= len(electors):
            raise Broken("elected by a majority", f"it reigns in term {term} by {votes} of {len(electors)} votes")
        newest = max((position for position in self.certified if position[0] < term), default=(0, 0))
        # What it issues again under its own term is stored before it speaks: how it stood for election comes before.
        held = max((position for position in self.durable[node].positions if position[0] < term), default=(0, 0))
        if held < newest:
            raise Broken("no commit is lost", f"it reigns in term {term} with {held} stored; {newest} is committed")

    def _check_stored(self, node: NodeId, name: str, term: int) -> None:
        if self.durable[node].stored.get(name, -1) < term:
            raise Broken("persist before send", f"it stands for a checkpoint in term {term} and may forget it")
        if not self._holds(node, self._facts(name).model):
            raise Broken("persist before send", "it stands for a checkpoint whose model is not on its disk")

    def _check_offer(self, node: NodeId, raw: bytes) -> None:
        offer = signed_body(raw)
        if offer["node"] != node:
            return
        if raw not in self.durable[node].offers:
            raise Broken("persist before send", "it offers an update that it may forget")
        if self.offered.setdefault((node, offer["base"]), offer["update"]) != offer["update"]:
            raise Broken("one update a round", "it offers two updates that were learned from one base")

    # --- what is committed ---------------------------------------------------------------------------------------
    def _check_certificate(self, name: str, acks: tuple[bytes, ...]) -> int:
        """The term of a certificate. More than half of the checkpoint's voters must have signed it, and hold it."""
        facts = self._facts(name)
        term, signers = _signers(tuple(acks), name)
        voters = set(facts.voters)
        if 2 * len(signers & voters) <= len(voters):
            count = f"{len(signers & voters)} of {len(voters)} voters"
            raise Broken("every commit has its certificate", f"round {facts.round} is committed by {count}")
        position = (term, facts.round)
        if position not in self.certified:
            for signer in sorted(signers - self._liars):
                held = self.durable.get(NodeId(signer), Durable())
                if held.stored.get(name, -1) < term:
                    raise Broken("no commit is lost", f"{signer} acknowledged round {facts.round} and may forget it")
        if self.certified.setdefault(position, name) != name:
            raise Broken("one commit a round", f"two checkpoints are certified for round {facts.round} in term {term}")
        self._commit(name, facts)
        return term

    def _commit(self, name: str, facts: Facts) -> None:
        if facts.round not in self.committed:
            self.commit_times.append((trio.current_time(), facts.round))
            self.outcome = facts.outcome if facts.round == self.committed_round + 1 else self.outcome
        if self.committed.setdefault(facts.round, name) != name:
            raise Broken("one commit a round", f"two checkpoints are committed for round {facts.round}")
        before = self.committed.get(facts.round - 1)
        if before is not None and facts.round > 0 and facts.previous != before:
            raise Broken("one chain", f"round {facts.round} does not build on the commit before it")
        if before is not None and len(set(self._facts(before).voters) ^ set(facts.voters)) > 1:
            raise Broken("one voter at a time", f"round {facts.round} changes more than one voter")

    # --- checkpoints ---------------------------------------------------------------------------------------------
    def _name(self, envelope: bytes) -> str:
        """The checkpoint in an envelope; the starting one travels as no bytes."""
        if not envelope:
            return self._starting()
        name = checkpoint_hash(envelope)
        if name not in self.checkpoints:
            body = signed_body(envelope)
            used = (update["offer"] for update in body["updates"] if not update["refused"])
            self.checkpoints[name] = Facts(
                round=body["round"],
                previous=body["previous"],
                voters=body["voters"],
                model=body["model"],
                outcome=body["outcome"],
                roster=body["roster"],
                contributors=tuple(signed_body(offer)["node"] for offer in used),
            )
        return name

    def _facts(self, name: str) -> Facts:
        if name in self.checkpoints:
            return self.checkpoints[name]
        zero = self._starting()
        if name not in (NOTHING, zero):
            raise Broken("every commit has its certificate", f"a node speaks of {name[:8]}, which nobody has made")
        return self.checkpoints[zero]

    def _starting(self) -> str:
        if self._zero == NOTHING:
            self._zero, facts = self._start()
            self.checkpoints[self._zero] = facts
        return self._zero


def _keeps(now: Durable, before: Durable) -> bool:
    """Whether a journal still has whatever of it matters."""
    has_vote = now.term > before.term or (now.term, now.voted_for) == (before.term, before.voted_for)
    has_checkpoints = now.position >= before.position and now.committed_round >= before.committed_round
    return has_vote and has_checkpoints and before.offers <= now.offers


@lru_cache(maxsize=4096)
def _signers(acks: tuple[bytes, ...], name: str) -> tuple[int, frozenset[str]]:
    """The highest term under which acknowledgements of a checkpoint are rightly signed, and by whom."""
    by_term: dict[int, set[str]] = {}
    for raw in acks:
        try:
            ack = open_ack(raw).body
        except RemoteProtocolError:
            continue
        if ack.checkpoint == name:
            by_term.setdefault(ack.term, set()).add(ack.node)
    best = max(by_term, key=lambda term: (len(by_term[term]), term), default=-1)
    return best, frozenset(by_term.get(best, ()))
