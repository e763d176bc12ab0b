"""Updates that come a round late: refused, or used in the next round for half of what they would have counted.

docs/protocol.md §8.20. A difference learned from the checkpoint before is added to the newer one, discounted for its
age, as in FedBuff (Nguyen et al., 2022, arXiv:2106.06639).
"""

from protocol.errors import RemoteProtocolError
from protocol.run.checkpoint import Checkpoint, Offer, open_offer

LATE_DIVISOR = 2  # of the samples that a late update claims


def is_late(offer: Offer, round_number: int) -> bool:
    """Whether it was learned for the round before `round_number`."""
    return offer.round == round_number - 1


def counted_samples(offer: Offer, round_number: int) -> int:
    """The samples that an update enters its round with."""
    return max(1, offer.samples // LATE_DIVISOR) if is_late(offer, round_number) else offer.samples


def may_come_late(offer: Offer, base: Checkpoint) -> bool:
    """Whether a late update fits the round after `base`: learned from the checkpoint before it, and not used in it."""
    return is_late(offer, base.round + 1) and offer.base == base.previous and offer.node not in _used_nodes(base)


def check_late_updates(checkpoint: Checkpoint, base: Checkpoint) -> None:
    """Raise RemoteProtocolError unless every late update that `checkpoint` uses fits the round after `base`."""
    for entry in checkpoint.updates:
        offer = open_offer(entry.offer).body
        if not entry.refused and is_late(offer, checkpoint.round) and not may_come_late(offer, base):
            raise RemoteProtocolError("A checkpoint uses a late update that does not fit, or was used before")


def _used_nodes(checkpoint: Checkpoint) -> set[str]:
    return {open_offer(entry.offer).body.node for entry in checkpoint.updates if not entry.refused}
