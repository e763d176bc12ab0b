"""A node's own part in the rounds: train from the newest commit, offer the update, measure, report.

docs/protocol.md §8.8. What was learned once from a base is offered to whoever aggregates, until a receipt comes or the
round is over; so a round that lost its aggregator is finished without training again.
"""

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash, NodeId
from protocol.limits import OFFERS_BYTES_MAX, REPORTS_BYTES_MAX
from protocol.run.checkpoint import SPANS_MAX, Offer, Receipt, Report, Span, open_receipt
from protocol.run.context import RunContext
from protocol.run.events import (
    STATE_LETTERS,
    CodingBegan,
    Evaluate,
    Evaluated,
    Measured,
    ParticipantState,
    Train,
    Trained,
    TrainingFailed,
)
from protocol.run.journal import OfferRecord
from protocol.run.lateness import may_come_late
from protocol.run.ledger import Held, Ledger
from protocol.run.messages import EarlyMessage, OfferMessage, ReceiptMessage, RefusalMessage, ReportMessage
from protocol.run.refusals import TOLD_AT_ONCE, a_refusal_is_of_our_own_offer, refusal_in_words
from protocol.signing import Signed
from protocol.wire import hash_of


class Participation:
    """What this node does in a run besides voting."""

    def __init__(self, context: RunContext, ledger: Ledger) -> None:
        self.context = context
        self.ledger = ledger
        self.letter = "R"
        self.failed = ""
        self.offer: tuple[bytes, Offer] | None = None
        self.report: bytes | None = None
        self.receipted = False
        self.receipts: dict[int, Signed[Receipt]] = {}  # of our newest offer, by term
        self._training: Hash | None = None
        self._evaluated: Hash | None = None
        self._report_sent_to: NodeId | None = None
        self._untold: tuple[Span, ...] = ()  # spans that no note of ours has carried
        self._refusal: tuple[int, str] | None = None  # of our newest offer: in which term, in which words

    def on_commit(self, held: Held, aggregator: NodeId | None) -> None:
        """A checkpoint was committed here: go on from it."""
        if self.ledger.has_ended:
            self._evaluate(held)
            self._set_letter("X" if self.failed else "W" if self._evaluated == held.name else "F")
        elif not self._is_chosen():
            self._set_letter("X" if self.failed else "W")
            self._evaluate(held)
        elif self.offer is not None and self.offer[1].base == held.name:
            self._set_letter("U")
            self.repeat_to(aggregator)
        elif self._training is None:
            self._train(held)

    def repeat_to(self, aggregator: NodeId | None) -> None:
        """Say again what the aggregator may have missed: our offer, until it is receipted, and our report, once."""
        if aggregator is None:
            return
        if self.offer is not None and self._is_wanted(self.offer[1]) and not self.receipted:
            self.context.send(aggregator, OfferMessage(run=self.context.run, offer=self.offer[0]))
        if self.report is not None and self._report_sent_to != aggregator:
            self._report_sent_to = aggregator
            self.context.send(aggregator, ReportMessage(run=self.context.run, report=self.report))

    def on_new_aggregator(self) -> None:
        """Receipts of the last one are worth nothing to the next."""
        self.receipted = False
        self._report_sent_to = None

    def on_answer(self, aggregator: NodeId, message: ReceiptMessage | RefusalMessage, term: int) -> None:
        """The aggregator of `term` says what became of our offer. Raises RemoteProtocolError."""
        if isinstance(message, ReceiptMessage):
            self.on_receipt(aggregator, message.receipt, term)
        else:
            self.on_refusal(message, term)

    def on_receipt(self, aggregator: NodeId, raw: bytes, term: int) -> None:
        """The aggregator of `term` has our update of this round. Raises RemoteProtocolError."""
        receipt = open_receipt(raw)
        body = receipt.body
        if self.offer is None or receipt.node_id != aggregator or body.term != term:
            return
        if body.node == self.context.me and body.offer == hash_of(self.offer[0]):
            self.receipted = True
            self.receipts[term] = receipt
            self._set_letter("W")

    def on_refusal(self, message: RefusalMessage, term: int) -> None:
        """Tell people, once in a term; what we do does not depend on it (§8.30). Raises RemoteProtocolError."""
        if self.offer is None or self.receipted or self.letter not in "UW" or not self._is_wanted(self.offer[1]):
            return
        told_in, told = self._refusal or (-1, "")
        if told_in == term or not a_refusal_is_of_our_own_offer(message, term, self.offer[0]):
            return
        if message.code not in TOLD_AT_ONCE:
            raise RemoteProtocolError(f"It refuses our update by a name that is not known here, {message.code}")
        words = refusal_in_words(message.reason, message.code)
        if words != told:
            self._set_letter("W", words)
        self._refusal = (term, words)

    # --- training ------------------------------------------------------------------------------------------------
    def _train(self, held: Held) -> None:
        self._training = held.name
        self._set_letter("T")
        self.context.out.append(Train(held.checkpoint.round + 1, held.name, held.checkpoint))

    def on_done(self, event: CodingBegan | Trained | TrainingFailed | Evaluated, aggregator: NodeId | None) -> None:
        """What was to be done has come so far."""
        match event:
            case CodingBegan():
                self.on_coding_began(event, aggregator)
            case Trained():
                self.on_trained(event, aggregator)
            case TrainingFailed():
                self.on_training_failed(event)
            case Evaluated():
                self.on_evaluated(event, aggregator)

    def on_coding_began(self, event: CodingBegan, aggregator: NodeId | None) -> None:
        """Tell who aggregates, once, where the round under way can take the update (§8.29)."""
        committed = self.ledger.committed
        if committed is None or self.ledger.has_ended or event.base != committed.name:
            return
        if aggregator not in (None, self.context.me):
            message = EarlyMessage(run=self.context.run, round=event.round, base=event.base)
            self.context.send(aggregator, message)

    def on_trained(self, event: Trained, aggregator: NodeId | None) -> None:
        """Sign the offer, remember it durably, hand it to the aggregator; if the round is over, train the next."""
        if event.offer.base == self._training:
            self._training = None
        committed = self.ledger.committed
        if committed is None or self.ledger.has_ended:
            return
        if not self._is_wanted(event.offer):
            self._untold = event.offer.spans
            self._set_letter("W", f"the update for round {event.offer.round} came too late")
            self.on_commit(committed, aggregator)
            return
        self.offer, self.receipted = self._signed_offer(event.offer), False
        raw = self.offer[0]
        self.receipts.clear()
        self.context.persist(OfferRecord(offer=raw))
        self._set_letter("U")
        self.repeat_to(aggregator)
        self._evaluate(committed)

    def _signed_offer(self, offer: Offer) -> tuple[bytes, Offer]:
        """The offer as it is sent. What it tells beside the update goes where a checkpoint of so many nodes has no room
        for it (§8.22)."""
        if self._untold:
            offer = offer.model_copy(update={"spans": (*self._untold, *offer.spans)[-SPANS_MAX:]})
            self._untold = ()
        raw = self.context.sign(offer)
        if len(raw) > OFFERS_BYTES_MAX // len(self.ledger.newest.roster) and (offer.spans or offer.usage):
            offer = offer.model_copy(update={"spans": (), "usage": {}})
            raw = self.context.sign(offer)
        return raw, offer

    def _is_wanted(self, offer: Offer) -> bool:
        """Whether the round under way takes it: learned from the newest commit, or from the one before, where the late
        are used and nothing was learned from the newest (§8.20)."""
        committed = self.ledger.committed
        if committed is None or self.ledger.has_ended:
            return False
        late = self.context.settings.late_are_used and may_come_late(offer, committed.checkpoint)
        return offer.base == committed.name or late

    def on_training_failed(self, event: TrainingFailed) -> None:
        """Our training is over for this run; we go on following, and voting if we are a voter. Where there is only no
        room, nobody waits for us (§8.7) until we have trained all the same, or go on from another checkpoint."""
        if event.for_good:
            self._training = None
            self.failed = event.reason
        elif self.letter == "X" or self.ledger.has_ended:
            return
        self._set_letter("X", event.reason)

    def begin_again(self) -> None:
        """The run goes on after its end. Who could not train before may try once more."""
        self.failed = ""
        self._training = None
        self.letter = "R"

    def restore_offer(self, raw: bytes, offer: Offer) -> None:
        self.offer = (raw, offer)

    def _is_chosen(self) -> bool:
        """Whether we train in the round after the newest commit."""
        return not self.failed and self.context.me in self.ledger.trainers_after(self.ledger.newest)

    # --- measuring -----------------------------------------------------------------------------------------------
    def _evaluate(self, held: Held) -> None:
        checkpoint = held.checkpoint
        note = self.ledger.notes().get(self.context.me)
        due = checkpoint.outcome != "" or checkpoint.round % self.context.settings.evaluate_every == 0
        able = note is not None and note.role != "observer" and not self.failed
        if due and able and self._evaluated != held.name:
            self._evaluated = held.name
            self.context.out.append(Evaluate(held.name, checkpoint))

    def on_evaluated(self, event: Evaluated, aggregator: NodeId | None) -> None:
        """Sign the measurement, record it, and hand it to the aggregator for the others. After the last we are done."""
        committed = self.ledger.committed
        if committed is not None and self.ledger.has_ended and event.checkpoint == committed.name:
            self._set_letter("F")
        self._untold = (*self._untold, *event.spans)[-SPANS_MAX:]
        if event.samples < 1 and not (self._untold and self._tells_by_report()):
            return
        report = Report(
            run=self.context.run,
            node=self.context.me,
            round=event.round,
            checkpoint=event.checkpoint,
            samples=event.samples,
            metrics=event.metrics,
            spans=self._untold,
        )
        self._untold = ()
        self.report = self.context.sign(report)
        if len(self.report) > REPORTS_BYTES_MAX // len(self.ledger.newest.roster) and report.spans:
            self.report = self.context.sign(report.model_copy(update={"spans": ()}))
        self._report_sent_to = None
        self.context.out.append(Measured((self.report,)))
        self.repeat_to(aggregator)

    def _tells_by_report(self) -> bool:
        """Whether no offer of ours will carry what we have to tell."""
        return self.ledger.has_ended or not self._is_chosen()

    @property
    def reports_to_come(self) -> bool:
        """Whether the last checkpoint is still being measured here."""
        return self.letter == "W"

    def _set_letter(self, letter: str, reason: str = "") -> None:
        if letter != self.letter or reason or self._refusal is not None:
            self.letter, self._refusal = letter, None
            state = STATE_LETTERS[letter]
            self.context.out.append(
                ParticipantState(self.context.me, state, max(0, self.ledger.committed_round), reason)
            )
