"""One open round at its aggregator: who is to train, whose updates have come, which were refused and why.

docs/protocol.md §8.7.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash, NodeId, RunId
from protocol.limits import OFFERS_BYTES_MAX
from protocol.run.checkpoint import Offer, UpdateEntry, open_offer
from protocol.run.early import early_name
from protocol.run.events import Collect, Collected, FetchEarly
from protocol.run.lateness import is_late, may_come_late
from protocol.run.ledger import Held
from protocol.run.messages import EarlyMessage
from protocol.run.refusals import Refused

# Of an update that could not be stored where it was collected: no fault of the update's, nor of its node's.
NO_ROOM = "no-room"


@dataclass(slots=True)
class Gathering:
    """Each node offers one update; it is collected, or refused by name, and then settled."""

    run: RunId
    round: int
    base: Held
    trainers: frozenset[NodeId]
    deadline: float
    late_are_used: bool = False
    offers: dict[NodeId, bytes] = field(default_factory=dict)  # signed, in the order of their coming
    offered_by: dict[Hash, NodeId] = field(default_factory=dict)  # the same by their hashes
    collected: set[NodeId] = field(default_factory=set)
    refused: dict[NodeId, UpdateEntry] = field(default_factory=dict)
    turned_away: set[NodeId] = field(default_factory=set)  # for what is no part of the round
    early: set[NodeId] = field(default_factory=set)  # whose updates were asked for while they were coded
    combining: bool = False

    def early_bytes_are_asked_for_once(self, peer: NodeId, message: EarlyMessage) -> list[FetchEarly]:
        """What there is of an update is fetched while it is coded: of who is to train in the round and has offered
        nothing for it yet, once (§8.29)."""
        is_ours = (message.run, message.round, message.base) == (self.run, self.round, self.base.name)
        is_awaited = peer in self.trainers and peer not in self.offers and not self.combining
        if not is_ours or not is_awaited or peer in self.early:
            return []
        self.early.add(peer)
        name = early_name(self.run, self.round, self.base.name, peer)
        return [FetchEarly(peer, name, self.base.name, self.base.checkpoint)]

    def early_bytes_are_of_use(self, peer: NodeId, learned_from: Hash) -> bool:
        """What comes early is kept while the round is gathered and nothing is decided about its node's update; no
        longer than until the round is combined (§8.29)."""
        return learned_from == self.base.name and not self.combining and not self.is_settled(peer)

    def on_offer(self, peer: NodeId, raw: bytes) -> Collect | Refused | Hash | None:
        """What to do about an offer: collect it; tell of its refusal; give its receipt again (its hash); or nothing.

        Raises RemoteProtocolError for what no honest node sends: another's offer, a second update for the round.
        """
        try:
            signed = open_offer(raw)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{error.what} (malformed-offer)") from error
        offer = signed.body
        if (offer.node, offer.run) != (peer, self.run):
            raise RemoteProtocolError(f"{peer} offers what {offer.node} learned in the run {offer.run} (wrong-sender)")
        refusal = why_refused(raw, offer, self.trainers, self.base, late_are_used=self.late_are_used)
        if refusal is not None and refusal[0] in UNLISTED_REFUSALS:
            return self._turn_away(peer, raw, *refusal)
        if self.offers.get(peer, raw) != raw:
            raise RemoteProtocolError(f"{peer} offers a second update for round {offer.round} (second-update)")
        if peer in self.collected:
            return signed.hash
        if peer in self.refused:
            return Refused(self.refused[peer], is_new=False)
        if peer in self.offers or self.combining:
            return None
        self.offers[peer] = raw
        self.offered_by[signed.hash] = peer
        return Collect(signed.hash, offer) if refusal is None else Refused(self._refuse(peer, *refusal))

    def _turn_away(self, peer: NodeId, raw: bytes, code: str, reason: str) -> Refused:
        """A refusal that is no part of the round. It is new once in a round, however often it is offered."""
        is_new = peer not in self.turned_away
        self.turned_away.add(peer)
        return Refused(UpdateEntry(offer=raw, weight=0, refused=code, reason=reason), is_new)

    def on_collected(self, event: Collected) -> NodeId | None:
        """Whose update is here now, or was refused on arrival. One that could not be fetched may be offered again; so
        may one that came while the others were being combined, for a receipt for it would be a lie."""
        peer = self.offered_by.get(event.offer)
        if peer is None or self.is_settled(peer):
            return None
        if event.refused in ("unreachable", NO_ROOM) or self.combining:
            del self.offers[peer], self.offered_by[event.offer]
            return None
        if event.refused:
            self._refuse(peer, event.refused, event.reason)
        else:
            self.collected.add(peer)
        return peer

    def unsettled(self) -> Iterator[NodeId]:
        return (node for node in self.trainers if not self.is_settled(node))

    def is_settled(self, node: NodeId) -> bool:
        return node in self.collected or node in self.refused

    def lack(self, wanted: int, failed: Set[NodeId]) -> str:
        """What keeps the round from being combined, for people."""
        text = f"round {self.round} waits for updates: {len(self.collected)} of at least {wanted}"
        gone = self.trainers & failed
        if not self.trainers - gone - self.refused.keys():
            text += (
                f"; no more can come (nodes that failed: {len(gone)}, updates refused: {len(self.refused)}): mend what"
                " they say, then stop the run and resume it"
            )
        return text

    def result(self) -> tuple[tuple[bytes, ...], tuple[UpdateEntry, ...]]:
        """The offers to combine, and the refused ones."""
        offers = tuple(raw for node, raw in self.offers.items() if node in self.collected)
        return offers, tuple(self.refused.values())

    def _refuse(self, peer: NodeId, code: str, reason: str) -> UpdateEntry:
        entry = UpdateEntry(offer=self.offers[peer], weight=0, refused=code, reason=reason[:500])
        self.refused[peer] = entry
        return entry


# Refused, and no part of the round: whoever sends what nobody asked for must not fill the checkpoint with it.
UNLISTED_REFUSALS = frozenset({"wrong-round", "too-late", "not-chosen", "offer-too-long"})
# What an offer alone decides, by code.
OFFER_REFUSALS = UNLISTED_REFUSALS | {"wrong-base", "no-samples"}


def why_refused(
    raw: bytes, offer: Offer, trainers: Set[NodeId], base: Held, *, late_are_used: bool
) -> tuple[str, str] | None:
    """The rules for an update that its offer alone breaks, each a code and a sentence (§8.11, §8.20)."""
    round_number = base.checkpoint.round + 1
    late = late_are_used and is_late(offer, round_number)
    if offer.round < round_number and not late:
        return "too-late", f"it was learned for round {offer.round}, and that is over"
    if offer.round > round_number:
        return "wrong-round", f"it is for round {offer.round}, and round {round_number} is under way"
    if late and not may_come_late(offer, base.checkpoint):
        return "too-late", "it was learned for an earlier round, or used there already"
    if not late and offer.node not in trainers:
        return "not-chosen", "this node does not train in this round"
    if not late and offer.base != base.name:
        return "wrong-base", "it was learned from another checkpoint"
    if len(raw) > room_for_each(trainers):
        return "offer-too-long", "its metrics take more room than a checkpoint has for each node"
    if offer.samples < 1:
        return "no-samples", "it was learned from no samples"
    return None


def room_for_each(trainers: Set[NodeId]) -> int:
    """Bytes for one offer: all of them go into the checkpoint, and that into a frame."""
    return OFFERS_BYTES_MAX // max(1, len(trainers))
