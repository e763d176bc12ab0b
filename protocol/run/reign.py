"""The aggregator's work in one term: issue, commit, open a round, gather updates, have them combined, issue again.

docs/protocol.md §8. A reign begins by issuing the newest checkpoint that the aggregator holds under its own term;
nothing of an earlier term is ever counted as committed by its old acknowledgements.
"""

from protocol.keys import Hash, NodeId
from protocol.limits import REPORTS_BYTES_MAX
from protocol.run.checkpoint import (
    Ack,
    Checkpoint,
    Issue,
    Receipt,
    majority,
    open_ack,
    open_offer,
    open_ready,
    open_report,
)
from protocol.run.context import RunContext
from protocol.run.events import STATE_LETTERS, Collect, Collected, Combine, Combined, Note, Obtain, ParticipantState
from protocol.run.gathering import NO_ROOM, Gathering
from protocol.run.history import REPORT_ROUNDS_MAX, believed_reports
from protocol.run.intake import Commitment
from protocol.run.ledger import Held, Ledger
from protocol.run.messages import Heartbeat, Proposal, ReceiptMessage, Reports
from protocol.run.pace import Pace
from protocol.run.refusals import Refused
from protocol.run.succession import checkpoint_of, next_members, stop_after
from protocol.wire import hash_of, pack

# How long the last reports are waited for after the end: evaluating takes a node seconds, and nothing hangs on it.
CLOSING_S = 20.0
# So often a round is combined in vain before another node may try: once may be a disk that had no room for a moment.
FAILED_COMBINES_MAX = 3
# How many heartbeats a new aggregator waits for the first answer of a node: one may be lost, three hardly are.
_FIRST_HEARTBEATS = 3


class Reign:
    """Owned by the run's machine while we are the aggregator of `term`; thrown away when we are no more."""

    def __init__(self, context: RunContext, ledger: Ledger, term: int) -> None:
        self.context = context
        self.ledger = ledger
        self.term = term
        self.began_at = context.now
        self.inherited = ledger.committed is not None
        self.opened = False
        self.proposed: tuple[Held, bytes] | None = None  # with the signed issue
        self.acks: dict[NodeId, bytes] = {}
        self.gathering: Gathering | None = None
        self.heard: dict[NodeId, float] = {}
        self.letters: dict[NodeId, str] = {}
        self.reports: dict[tuple[NodeId, int], bytes] = {}
        self.entrants: dict[NodeId, bytes] = {}
        self.closing = False
        self.proposed_at = context.now
        self.failures = 0  # to combine: its disk may be damaged or full
        self.pace = Pace(context.settings.round_deadline_min_s, context.settings.round_deadline_s)
        self.opened_at = context.now
        self._note = ""

    # --- issuing and committing ----------------------------------------------------------------------------------
    def begin(self) -> None:
        """Issue the newest checkpoint that we hold again, under our term (§8.1)."""
        held = self.ledger.stored
        if self.ledger.is_durable(held):
            self._issue(held)
        else:
            self.context.out.append(Obtain(held.name, held.checkpoint, None, self.ledger.roster()))
        self.on_heartbeat_timer()

    def on_obtained(self, name: Hash, ok: bool) -> None:
        """Our own newest checkpoint, when it was not yet whole here; perhaps once more, long after we issued it."""
        held = self.ledger.stored
        if self.proposed is None and not self.opened and name == held.name:
            if ok:
                self._issue(held)
            else:
                self.context.set_timer("reissue", self.context.settings.heartbeat_s)

    def on_reissue_timer(self) -> None:
        held = self.ledger.stored
        if self.proposed is None and not self.opened:
            self.context.out.append(Obtain(held.name, held.checkpoint, None, self.ledger.roster()))

    def _issue(self, held: Held) -> None:
        issue = self.context.sign(
            Issue(run=self.context.run, term=self.term, round=held.checkpoint.round, checkpoint=held.name)
        )
        self.proposed, self.acks, self.proposed_at = (held, issue), {}, self.context.now
        self.ledger.store(self.term, held, issue)
        self._propose_to(self._proposed_voters())
        ack = Ack(
            run=self.context.run,
            term=self.term,
            round=held.checkpoint.round,
            checkpoint=held.name,
            node=self.context.me,
        )
        self.on_ack(self.context.me, self.context.sign(ack))

    def _propose_to(self, voters: tuple[NodeId, ...]) -> None:
        if self.proposed is not None:
            held, issue = self.proposed
            self.context.send_all(voters, Proposal(run=self.context.run, issue=issue, checkpoint=held.raw))

    def on_ack(self, peer: NodeId, raw: bytes) -> None:
        """Keep a voter's acknowledgement of the very checkpoint that we have proposed in this term."""
        ack = open_ack(raw).body
        if self.proposed is None or peer not in self._proposed_voters() or ack.node != peer:
            return
        held, _ = self.proposed
        if (ack.run, ack.term, ack.checkpoint) == (self.context.run, self.term, held.name):
            self.acks[peer] = raw

    def is_committed(self) -> bool:
        """Whether more than half of the voters have acknowledged what we proposed (§8.6)."""
        return self.proposed is not None and len(self.acks) >= majority(self._proposed_voters())

    def _proposed_voters(self) -> tuple[NodeId, ...]:
        """The voters of what we propose: they count from then on (§8.13)."""
        assert self.proposed is not None
        return tuple(NodeId(node) for node in self.proposed[0].checkpoint.voters)

    def take_commit(self) -> Commitment:
        """The checkpoint that has just been committed, with its certificate and the reports that came since the last
        one. The next round may then be opened."""
        assert self.proposed is not None
        held, _ = self.proposed
        acks = tuple(self.acks[node] for node in self._proposed_voters() if node in self.acks)
        self.proposed, self.gathering, self.opened = None, None, True
        reports = believed_reports(self._drain_reports(), held.name, held.checkpoint)
        return Commitment(held, self.term, acks, reports=reports)

    def announce(self, roster: tuple[NodeId, ...]) -> None:
        """Tell everybody of the newest commit."""
        self.context.send_all(roster, self.ledger.newest_commit())

    # --- a round -------------------------------------------------------------------------------------------------
    def comes_to_nothing(self) -> bool:
        """Whether rounds are combined in vain, or nobody can fetch what we have proposed for so long, or we what we are
        to propose first (§8.21)."""
        is_waiting = self.proposed is not None or not self.opened
        waited_s = self.context.now - self.proposed_at if is_waiting else 0.0
        return self.failures >= FAILED_COMBINES_MAX or waited_s > self.context.settings.round_deadline_s

    def open_round(self) -> None:
        """Open the round after the newest commit; or end the run, when the group has asked for that."""
        base = self.ledger.committed
        assert base is not None
        if self.context.directions.stop is not None:
            self._issue_stop(base)
            return
        round_number = base.checkpoint.round + 1
        chosen = self.ledger.trainers_after(base.checkpoint)
        deadline_s = self.pace.next_deadline_s()
        self.opened_at = self.context.now
        deadline, late = self.context.now + deadline_s, self.context.settings.late_are_used
        self.gathering = Gathering(self.context.run, round_number, base, chosen, deadline, late)
        self.context.set_timer("round", deadline_s)

    def on_offer(self, peer: NodeId, raw: bytes) -> None:
        """An update is offered: have it collected, or say again that we have it. Raises RemoteProtocolError."""
        is_theirs_to_offer = peer in self.ledger.notes() and peer not in self.context.deposed
        if self.gathering is None or not is_theirs_to_offer:
            return
        match self.gathering.on_offer(peer, raw):
            case Collect() as collect:
                self._set_letter(peer, "U", self.gathering.round)
                self.context.out.append(collect)
            case Refused() as refused:
                self._tell_of_refusal(peer, self.gathering.round, refused)
            case str(offer):
                self._send_receipt(peer, Hash(offer))
            case None:
                pass

    def on_collected(self, event: Collected) -> None:
        if self.gathering is None:
            return
        if event.refused == NO_ROOM:
            self.failures += 1
            self.say(f"round {self.gathering.round} waits for room on the aggregator's disk: {event.reason}")
        peer = self.gathering.on_collected(event)
        if peer is None:
            return
        if event.refused:
            self._tell_of_refusal(peer, self.gathering.round, Refused(self.gathering.refused[peer]))
        else:
            self.pace.on_update(self.context.now - self.opened_at)
            self._set_letter(peer, "W", self.gathering.round)
            self._send_receipt(peer, event.offer)
        self.combine_if_ready()

    def _tell_of_refusal(self, peer: NodeId, round_number: int, refused: Refused) -> None:
        """Its node as often as it offers the update (§8.30); people once, and of our own our participation tells."""
        message = refused.message(self.context.run, self.term)
        if message is not None:
            self.context.send(peer, message)
        if refused.is_new and (message is None or peer != self.context.me):
            self._set_letter(peer, "W", round_number, refused.sentence)

    def _send_receipt(self, peer: NodeId, offer: Hash) -> None:
        assert self.gathering is not None
        receipt = Receipt(run=self.context.run, term=self.term, round=self.gathering.round, node=peer, offer=offer)
        self.context.send(peer, ReceiptMessage(run=self.context.run, receipt=self.context.sign(receipt)))

    def combine_if_ready(self) -> None:
        """Combine when all who are expected have been heard; after the deadline, when enough have (§8.7)."""
        gathering = self.gathering
        if gathering is None or gathering.combining:
            return
        if self.context.directions.stop is not None:
            self.gathering = None
            self._issue_stop(gathering.base)
            return
        wanted = max(1, self.context.settings.updates_min)
        due = self.context.now >= gathering.deadline or not any(map(self._is_expected, gathering.unsettled()))
        if due and len(gathering.collected) >= wanted:
            gathering.combining = True
            offers, refused = gathering.result()
            self.context.out.append(Combine(gathering.round, self.term, gathering.base.checkpoint, offers, refused))
            self.say("")
        elif due:
            self.say(gathering.lack(wanted, failed={node for node, letter in self.letters.items() if letter == "X"}))

    def _is_expected(self, node: NodeId) -> bool:
        """A node is waited for unless it failed, takes the run for over, was deposed or put out, or is too silent."""
        if self.letters.get(node) in ("X", "F") or node in self.context.deposed or not self.context.is_member(node):
            return False
        return node == self.context.me or not self._is_lost(node)

    def _is_lost(self, node: NodeId) -> bool:
        """Silent for too long. In a run under way, who answers none of a new aggregator's first heartbeats is gone:
        most likely it is the aggregator before."""
        heard_at = self.heard.get(node)
        if heard_at is None and self.inherited:
            return self.context.now - self.began_at > _FIRST_HEARTBEATS * self.context.settings.heartbeat_s
        return self.context.now - (heard_at or self.began_at) > self.context.settings.lost_after_s

    def on_combined(self, event: Combined) -> None:
        gathering = self.gathering
        if gathering is None or (event.term, event.round) != (self.term, gathering.round):
            return
        failed = event.failed or ("" if any(not entry.refused for entry in event.entries) else "no update can be used")
        if failed:
            self.failures += 1
            gathering.combining = False
            self.say(f"round {event.round} could not be combined: {failed}")
            return
        base = gathering.base.checkpoint
        notes = self.ledger.notes()
        members = next_members(
            base,
            first=self.ledger.first_nodes(),
            asked=self._to_take_in(base),
            gone={node for node in notes if self._is_gone(node)},
            candidates=[node for node, note in notes.items() if note.role != "observer" and self._is_able(node)],
            listed={open_offer(entry.offer).body.node for entry in event.entries},
        )
        self.entrants = {}
        rounds = max(base.rounds, self.context.directions.rounds)
        self._make(checkpoint_of(event, base, gathering.base.name, members, maker=self.context.me, rounds=rounds))

    def _to_take_in(self, base: Checkpoint) -> dict[NodeId, bytes]:
        """Of those who asked, perhaps while others were being taken in: whom voters acknowledge after `base` (§6.4)."""
        room = max(0, self.context.settings.nodes_max - len(base.roster))
        new = [node for node in self.entrants if node not in base.roster and self.context.is_member(node)]
        return {node: self.entrants[node] for node in new[:room]}

    def _is_able(self, node: NodeId) -> bool:
        return not self._is_lost(node) and node not in self.context.deposed

    def _is_gone(self, node: NodeId) -> bool:
        """Silent for longer than the grace period, out of the group (§8.13), or deposed (§8.16)."""
        if node == self.context.me or node in self.context.deposed:
            return node in self.context.deposed
        silent_s = self.context.now - self.heard.get(node, self.began_at)
        return silent_s > self.context.settings.leave_after_s or not self.context.is_member(node)

    def _issue_stop(self, base: Held) -> None:
        """End the run by an entry of the chain, so that all nodes end alike (§8.9). It takes the number of a round, so
        the last round's number moves on by one: who resumes the run has all its rounds."""
        reason = (self.context.directions.stop or "")[:500]
        self._make(stop_after(base.checkpoint, base.name, self.context.me, self.term, reason))

    def _make(self, checkpoint: Checkpoint) -> None:
        raw = self.context.sign(checkpoint)
        self._issue(Held(hash_of(pack(checkpoint)), checkpoint, raw))

    # --- liveness ------------------------------------------------------------------------------------------------
    def on_heartbeat_timer(self) -> bool:
        """Tell everybody that we live. False when no majority of the voters does, for all that we hear (§7.8)."""
        if not self._hears_majority():
            return False
        self.context.set_timer("heartbeat", self.context.settings.heartbeat_s)
        self._send_heartbeats()
        if self.proposed is not None:
            missing = tuple(node for node in self._proposed_voters() if node not in self.acks)
            self._propose_to(missing)
        for node in self.ledger.roster():
            if node != self.context.me and self._is_lost(node) and self.letters.get(node) not in ("L", "X"):
                self._set_letter(node, "L", self.ledger.committed_round)
        self.combine_if_ready()
        return True

    def _send_heartbeats(self) -> None:
        roster = self.ledger.roster()
        committed = self.ledger.committed
        heartbeat = Heartbeat(
            run=self.context.run,
            term=self.term,
            committed_round=committed.checkpoint.round if committed else 0,
            committed=committed.name if committed else "",
            opened=self.opened,
            states="".join(self.letters.get(node, "R") for node in roster),
        )
        self.context.send_all(roster, heartbeat)

    def _hears_majority(self) -> bool:
        me, heard_after = self.context.me, self.context.now - self.context.settings.election_timeout_s
        heard = (node == me or self.heard.get(node, self.began_at) > heard_after for node in self.context.voters)
        return sum(heard) >= majority(self.context.voters)

    def hear(self, peer: NodeId) -> None:
        """Any message of `peer` shows that it lives."""
        self.heard[peer] = self.context.now
        if self.letters.get(peer) == "L":
            self._set_letter(peer, "R", self.ledger.committed_round)

    def on_heartbeat_reply(self, peer: NodeId, committed_round: int, letter: str) -> None:
        settled = self.gathering is not None and self.gathering.is_settled(peer)
        if letter in STATE_LETTERS and not settled:
            self._set_letter(peer, letter, committed_round)

    def _set_letter(self, node: NodeId, letter: str, round_number: int, reason: str = "") -> None:
        """A node's state has changed. Of our own, Participation tells, unless the reason is ours."""
        if self.letters.get(node) != letter or reason:
            self.letters[node] = letter
            if node != self.context.me or reason:
                self.context.out.append(ParticipantState(node, STATE_LETTERS[letter], round_number, reason))

    def say(self, text: str) -> None:
        if text != self._note:
            self._note = text
            self.context.out.append(Note(text))

    # --- reports and entrants ------------------------------------------------------------------------------------
    def on_report(self, peer: NodeId, raw: bytes) -> None:
        """Keep a node's measurement for the next commit; after the end, close when all have reported."""
        report = open_report(raw).body
        is_theirs = report.node == peer and report.run == self.context.run and peer in self.ledger.roster()
        newest = self.ledger.newest_round
        if is_theirs and newest - REPORT_ROUNDS_MAX <= report.round <= newest:  # no commit tells an older one
            self.reports[peer, report.round] = raw

    def all_reported(self) -> bool:
        """Whether everybody who lives has reported on the last checkpoint, or has nothing to report."""
        last = self.ledger.committed_round
        return all(
            (node, last) in self.reports or self._is_lost(node) or self.letters.get(node) in ("X", "F")
            for node in self.ledger.roster()
        )

    def close(self) -> None:
        """Send the last reports around."""
        reports = Reports(run=self.context.run, reports=self._drain_reports())
        self.ledger.keep_reports(reports.reports)
        self.context.send_all(self.ledger.roster(), reports)

    def _drain_reports(self) -> tuple[bytes, ...]:
        taken: list[bytes] = []
        size = 0
        for key in list(self.reports):
            size += len(self.reports[key])
            if size > REPORTS_BYTES_MAX:
                break
            taken.append(self.reports.pop(key))
        return tuple(taken)

    def on_ready(self, peer: NodeId, raw: bytes) -> None:
        """A node that was not in the start asks to be taken in, with its own signed ready (§6.4)."""
        note = open_ready(raw).body
        is_new = peer not in self.ledger.notes() and peer not in self.context.deposed and self.context.is_member(peer)
        has_room = len(self.ledger.roster()) + len(self.entrants) < self.context.settings.nodes_max
        if note.node == peer and note.run == self.context.run and is_new and has_room:
            self.entrants[peer] = raw
            if self.ledger.committed is not None:
                self.context.send(peer, self.ledger.newest_commit())
