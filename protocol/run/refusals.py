"""Which refusals of an update its node is told of at once, in which words, and when it believes them.

docs/protocol.md §8.30. A refusal is a hint for people: the protocol's own word on an update is the checkpoint's.
"""

from dataclasses import dataclass

from protocol.fields import as_text
from protocol.keys import RunId
from protocol.run.checkpoint import UpdateEntry
from protocol.run.events import REFUSED_BEGINS
from protocol.run.messages import RefusalMessage
from protocol.wire import hash_of

# What is found out about one node's update by itself, by who was to have it. What is found out beside the others stands
# in a checkpoint soon after; what nobody asked for is no news to its node, or its node does not train in the round.
TOLD_AT_ONCE = frozenset(
    {
        *("wrong-base", "no-samples", "offer-too-long"),
        *("wrong-codec", "update-length", "malformed-code", "samples-out-of-range"),
        *("update-not-finite", "update-too-large", "counter-too-large", "norm-too-large"),
    }
)


def refusal_in_words(reason: str, code: str) -> str:
    """For people; ParticipantState knows it by its beginning."""
    return f"{REFUSED_BEGINS}{reason} ({code})"


@dataclass(frozen=True, slots=True)
class Refused:
    """An update is refused; not anew, where its node offers again what was refused before."""

    entry: UpdateEntry
    is_new: bool = True

    @property
    def sentence(self) -> str:
        return refusal_in_words(self.entry.reason, self.entry.refused)

    def message(self, run: RunId, term: int) -> RefusalMessage | None:
        """What the update's node is told, if it is."""
        code, reason = self.entry.refused, as_text(self.entry.reason)
        if code not in TOLD_AT_ONCE:
            return None
        return RefusalMessage(run=run, term=term, offer=hash_of(self.entry.offer), code=code, reason=reason)


def a_refusal_is_of_our_own_offer(message: RefusalMessage, term: int, offer: bytes) -> bool:
    """What the aggregator of an earlier term said, or of another offer, is not believed (§8.30)."""
    return message.term == term and message.offer == hash_of(offer)
