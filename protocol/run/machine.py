"""The machine of one run on one node: events in, outputs out, no I/O of its own. docs/protocol.md §6 to §8.

It puts the parts together: `Election` (who aggregates), `Ledger` (which checkpoints are held), `Intake` (those on their
way in), `Participation` (our own training and measuring), `Ending` and, while we are the aggregator, `Reign`.
"""

from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId, RunId
from protocol.run.audit import Audit
from protocol.run.checkpoint import RunStart, checkpoint_name, open_issue
from protocol.run.context import RunContext
from protocol.run.directions import Directions
from protocol.run.election import Election, Role
from protocol.run.ending import Ending
from protocol.run.events import (
    Began,
    CodingBegan,
    Collected,
    Combined,
    Committed,
    Directed,
    Evaluated,
    Misbehaved,
    Obtained,
    Received,
    Recomputed,
    RunEvent,
    RunOutput,
    RunSettings,
    Timer,
    Trained,
    TrainingFailed,
)
from protocol.run.intake import Commitment, Intake
from protocol.run.ledger import Ledger, MissedChanges
from protocol.run.messages import (
    Accusation,
    Acknowledgement,
    AskCommit,
    Commit,
    EarlyMessage,
    Heartbeat,
    HeartbeatReply,
    OfferMessage,
    PreVoteReply,
    PreVoteRequest,
    Proposal,
    ReadyMessage,
    ReceiptMessage,
    RefusalMessage,
    ReportMessage,
    Reports,
    RunMessage,
    VoteReply,
    VoteRequest,
)
from protocol.run.news import News
from protocol.run.overview import Overview
from protocol.run.participation import Participation
from protocol.run.recovery import recover
from protocol.run.reign import Reign
from protocol.run.voters import first_voters

NO_DIRECTIONS = Directions()


class RunMachine:
    """One run, seen from one node.

    Args:
        me, key: this node and its signing key.
        run, start, starter: the run, its start as the group's log has it, and the node that signed that.
        settings: what the manifest says, in so far as it matters here.
        jitter: numbers in [0, 1) from a seeded source.
        records: this node's journal of the run, in order; empty the first time.
        entry: our signed ready note, for being taken in where the roster does not name us, or no longer.
        directions: what the group's log asks of the run now.
        is_member: whether a node is bound to a member of the group, as far as its log is known here.

    Raises:
        RemoteProtocolError: the start or the journal is not what fednode writes.
    """

    def __init__(
        self,
        *,
        me: NodeId,
        key: Ed25519PrivateKey,
        run: RunId,
        start: RunStart,
        starter: NodeId,
        settings: RunSettings,
        jitter: Callable[[], float],
        records: Iterable[bytes] = (),
        entry: bytes | None = None,
        directions: Directions = NO_DIRECTIONS,
        is_member: Callable[[NodeId], bool] = lambda node: True,
    ) -> None:
        voters = first_voters(run, start)
        self.context = RunContext(me, key, run, voters, settings, jitter, directions=directions, is_member=is_member)
        self.ledger = Ledger(self.context, start, starter)
        self.election = Election(self.context)
        self.participation = Participation(self.context, self.ledger)
        self.audit = Audit(self.context, self.ledger, self.participation.receipts)
        self.intake = Intake(self.context, self.ledger, self.election, self.audit)
        self.overview = Overview(self.context, self.ledger)
        self.news = News(self.context, self.ledger, self.intake, self.election, entry)
        self.ending = Ending(self.context, self.ledger, self.intake, self.participation, self.overview)
        self.reign: Reign | None = None
        self._fresh = not recover(records, self.election, self.ledger, self.participation, self.audit)

    def is_trusted(self, peer: NodeId) -> bool:
        """Whether `peer` is in the roster and was not proven to lie."""
        return peer in self.ledger.notes() and peer not in self.context.deposed

    # --- the driver's side ---------------------------------------------------------------------------------------
    def step(self, event: RunEvent, now: float) -> list[RunOutput]:
        """Handle one event at time `now` (seconds, never less than before) and say what is to be done, in order.

        A message that the protocol forbids gives a `Misbehaved` and changes nothing but what its sender's honest part
        (a newer term, say) has changed already.
        """
        self.context.now = now
        out: list[RunOutput] = []
        self.context.out = out
        self._handle(event)
        while self.context.to_self:
            self._handle(self.context.to_self.popleft())
        return out

    def _handle(self, event: RunEvent) -> None:
        match event:
            case Received(peer, message):
                try:
                    self._on_message(peer, message)
                except RemoteProtocolError as error:
                    self.context.out.append(Misbehaved(peer, error.what))
            case Timer(name):
                self._on_timer(name)
            case Began():
                self._on_began()
            case Obtained():
                self._on_obtained(event)
            case Collected():
                if self.reign:
                    self.reign.on_collected(event)
            case Combined():
                if self.reign:
                    self.reign.on_combined(event)
            case CodingBegan() | Trained() | TrainingFailed() | Evaluated():
                self.participation.on_done(event, self.election.aggregator)
            case Recomputed():
                self.audit.on_recomputed(event)
                self.intake.on_recomputed(event)
            case Directed(directions):
                self._on_directed(directions)
        self._after_event()

    def _after_event(self) -> None:
        """What follows from any event: a reign begins or ends, a majority has been reached."""
        self.election.forsake_if_deposed()
        if self.reign is not None and self.reign.comes_to_nothing():
            self.election.yield_turn()
        if self.election.role is Role.AGGREGATOR and self.reign is None:
            self._begin_reign()
        elif self.election.role is not Role.AGGREGATOR:
            self.reign = None
        if self.reign is not None:
            self.reign.letters[self.context.me] = self.participation.letter
            if self.reign.is_committed():
                self._commit_proposed(self.reign)
        self.ending.look(self.reign)
        self.election.stored = (self.ledger.stored_term, self.ledger.stored.checkpoint.round)

    def _on_began(self) -> None:
        if self.ledger.has_ended:
            self.ending.end()
            return
        self.election.begin(fresh=self._fresh)
        if self.ledger.committed is not None:
            self.participation.on_commit(self.ledger.committed, None)

    # --- messages ------------------------------------------------------------------------------------------------
    def _on_message(self, peer: NodeId, message: RunMessage) -> None:
        if self.ledger.has_ended and self.news.answer_after_end(peer, message):
            return
        # Who looks for an aggregator does not hear us, though we hear it: it is as good as lost.
        is_seeking = isinstance(message, PreVoteRequest | VoteRequest | AskCommit | ReadyMessage)
        if self.reign is not None and not is_seeking and not self.ending.is_over:
            self.reign.hear(peer)
        match message:
            case PreVoteRequest():
                self.election.on_prevote_request(peer, message)
            case PreVoteReply():
                self.election.on_prevote_reply(peer, message)
            case VoteRequest():
                self.election.on_vote_request(peer, message)
            case VoteReply():
                self.election.on_vote_reply(peer, message)
            case Heartbeat():
                self._on_heartbeat(peer, message)
            case HeartbeatReply():
                self._on_heartbeat_reply(peer, message)
            case Proposal():
                self._on_proposal(peer, message)
            case Commit():
                self._on_commit(peer, message)
            case AskCommit():
                self.news.on_ask(peer, message)
            case Reports() if peer == self.election.aggregator:  # from others they could close a run without its last
                self._on_reports(message)
            case Accusation():
                self.audit.on_accusation(peer, message)
            case ReceiptMessage() | RefusalMessage() if peer == self.election.aggregator:
                self.participation.on_answer(peer, message, self.election.term)
            case _:
                if self.reign is not None:
                    self._on_message_to_aggregator(self.reign, peer, message)

    def _on_message_to_aggregator(self, reign: Reign, peer: NodeId, message: RunMessage) -> None:
        match message:
            case Acknowledgement():
                reign.on_ack(peer, message.ack)
            case OfferMessage():
                reign.on_offer(peer, message.offer)
            case EarlyMessage() if reign.gathering is not None and self.is_trusted(peer):
                self.context.out.extend(reign.gathering.early_bytes_are_asked_for_once(peer, message))
            case ReportMessage():
                self._on_report(reign, peer, message)
            case ReadyMessage():
                reign.on_ready(peer, message.ready)
            case _:
                pass

    def _on_heartbeat(self, peer: NodeId, message: Heartbeat) -> None:
        if not self._obey(peer, message.term):
            return
        if message.committed and message.committed_round > self.ledger.committed_round:
            self.news.ask(peer)
        elif message.opened:
            self.participation.repeat_to(peer)
        self.overview.take_states(message.states)

    def _obey(self, peer: NodeId, term: int) -> bool:
        """Note the aggregator's word, and answer it: it counts who hears it, and learns of newer terms (§7.6, §7.8)."""
        before = (self.election.term, self.election.aggregator)
        obeyed = self.election.hear(peer, term)
        if obeyed and before != (term, peer):  # the same node in a new term knows nothing of its old one
            self.participation.on_new_aggregator()
        reply = HeartbeatReply(
            run=self.context.run,
            term=self.election.term,
            committed_round=max(0, self.ledger.committed_round),
            state=self.participation.letter,
        )
        self.context.send(peer, reply)
        return obeyed

    def _on_heartbeat_reply(self, peer: NodeId, message: HeartbeatReply) -> None:
        if peer in self.context.voters:
            self.election.see_term(message.term)
        if self.reign is None or self.election.role is not Role.AGGREGATOR or self.ending.is_over:
            return
        self.reign.on_heartbeat_reply(peer, message.committed_round, message.state)

    def _on_proposal(self, peer: NodeId, message: Proposal) -> None:
        term = open_issue(message.issue).body.term
        if self._obey(peer, term):
            try:
                self.intake.on_proposal(peer, message)
            except MissedChanges:
                self.news.ask(peer)

    def _on_commit(self, peer: NodeId, message: Commit) -> None:
        try:
            commitment = self.intake.on_commit(message)
        except MissedChanges:
            self.news.ask(peer)
            return
        if commitment is not None:
            self._commit(commitment)
        elif self.intake.ended_without_us is not None:
            self.ending.end()
        elif message.round == self.ledger.committed_round:
            self.participation.repeat_to(self.election.aggregator)
        self.overview.take_reports(message.reports, message.round)

    def _on_report(self, reign: Reign, peer: NodeId, message: ReportMessage) -> None:
        if peer != self.context.me:
            self.overview.take_reports((message.report,))
        reign.on_report(peer, message.report)

    def _on_reports(self, message: Reports) -> None:
        self.overview.take_reports(message.reports)
        self.ledger.keep_reports(message.reports)
        if self.ledger.has_ended and not self.participation.reports_to_come:
            self.ending.end()

    # --- checkpoints ---------------------------------------------------------------------------------------------
    def _on_obtained(self, event: Obtained) -> None:
        if self.reign is not None:
            self.reign.on_obtained(event.checkpoint, event.ok)
        commitment = self.intake.on_obtained(event)
        if commitment is not None:
            self._commit(commitment)

    def _commit_proposed(self, reign: Reign) -> None:
        new = reign.take_commit()
        if self.ledger.committed is None or self.ledger.committed.name != new.held.name:
            self._commit(new, announce=reign)
        else:
            self.ledger.commit(reign.term, new.held, new.acks, reports=new.reports)
            reign.announce(self.ledger.roster())
        if self.ledger.has_ended:
            self.ending.begin_closing(reign)
        else:
            reign.open_round()
            self.participation.repeat_to(self.context.me)

    def _commit(self, commitment: Commitment, announce: Reign | None = None) -> None:
        """A checkpoint is committed and durable here: record it, tell the others if that is ours to do, go on."""
        held, term = commitment.held, commitment.term
        if held.checkpoint.round <= self.ledger.committed_round:
            return
        self.audit.look_for_omission(held)
        self.ledger.commit(term, held, commitment.acks, commitment.changes, commitment.reports)
        if announce is not None:
            announce.announce(self.ledger.roster())
        self.context.out.append(Committed(held.name, held.checkpoint, term))
        if self.ending.is_over and not self.ledger.has_ended:
            self._go_on()  # the certificate tells of a resumption that our copy of the log does not have yet
            return
        self.participation.on_commit(held, self.election.aggregator)
        if self.ledger.has_ended and announce is None:
            self.ending.on_last_commit(aggregator=self.election.aggregator)

    # --- the reign -----------------------------------------------------------------------------------------------
    def _begin_reign(self) -> None:
        self.participation.on_new_aggregator()
        self.reign = Reign(self.context, self.ledger, self.election.term)
        self.reign.begin()

    def _on_directed(self, directions: Directions) -> None:
        """The group asks for something: a reign sees to it at once, and a run that had ended may go on (§8.14)."""
        had_ended = self.ledger.has_ended
        self.context.directions = directions
        away = self.intake.ended_without_us
        goes_on_without_us = away is not None and not directions.end_at(checkpoint_name(away), away)
        if goes_on_without_us or (had_ended and not self.ledger.has_ended):
            self._go_on()
        elif not had_ended and self.ledger.has_ended:  # the stop that our newest commit answers had not come here yet
            assert self.ledger.committed is not None
            self.participation.on_commit(self.ledger.committed, self.election.aggregator)
            self.ending.on_last_commit(aggregator=self.election.aggregator)
        elif self.reign is not None:
            self.reign.combine_if_ready()

    def _go_on(self) -> None:
        """What ended the run is not its end any more: elect an aggregator, and train from there."""
        self.ending.take_back()
        self.participation.begin_again()
        if self.election.role is Role.AGGREGATOR:
            self.election.step_down()
            self.reign = None
        else:
            self.election.begin(fresh=False)
        if self.ledger.committed is not None:
            self.participation.on_commit(self.ledger.committed, self.election.aggregator)

    # --- timers --------------------------------------------------------------------------------------------------
    def _on_timer(self, name: str) -> None:
        if name == "election":
            self._on_election_timer()
        elif name == "heartbeat" and self.reign is not None and not self.ending.is_over:
            if not self.reign.on_heartbeat_timer():
                self.election.step_down()
        elif name == "round" and self.reign is not None:
            self.reign.combine_if_ready()
        elif name == "reissue" and self.reign is not None:
            self.reign.on_reissue_timer()
        elif name == "obtain":
            self.intake.on_obtain_timer()
        elif name == "recompute":
            self.audit.on_timer()
        elif name == "closing":
            self.ending.on_closing_timer(self.reign)

    def _on_election_timer(self) -> None:
        if self.intake.ended_without_us is not None:
            return
        if not self.ledger.has_ended:
            self.election.on_timer()
            self.news.seek()
        elif not self.ending.is_over:  # the last reports come from whoever reigns, if anybody still does
            self.ending.nobody_closes = not self.election.hears_aggregator()
            self.context.set_timer("election", self.context.settings.election_timeout_s)
