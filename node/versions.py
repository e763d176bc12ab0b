"""Who speaks which versions of the protocol, as far as it matters: told in the log once for each peer and version."""

import logging

from node.seams import Unreachable
from protocol import version
from protocol.keys import NodeId
from protocol.version import version_trouble

log = logging.getLogger("fednode.network")

PEERS_MAX = 1024  # of whom it is remembered; strangers at the entrance are among them


class OtherVersion(Unreachable):
    """The peer speaks other versions of the protocol than this node."""


class Versions:
    """What peers have said. `ours`: what this node speaks."""

    def __init__(self, ours: tuple[int, ...] = ()) -> None:
        self.ours = ours or (version.PROTOCOL_VERSION,)
        self._theirs: dict[NodeId, tuple[int, ...]] = {}

    def note(self, peer: NodeId, theirs: tuple[int, ...]) -> tuple[str, str] | None:
        """`peer` says what it speaks. What keeps us apart and what to do, or None."""
        trouble = version_trouble(peer, theirs, self.ours)
        before = self._theirs.pop(peer, None)
        if trouble is None:
            return None
        self._theirs[peer] = theirs
        if len(self._theirs) > PEERS_MAX:
            del self._theirs[next(iter(self._theirs))]
        if before != theirs:
            log.warning("%s; %s", *trouble)
        return trouble

    def agreed(self, peer: NodeId) -> None:
        """`peer` has just spoken our version."""
        self._theirs.pop(peer, None)

    def trouble(self, peer: NodeId) -> str:
        """What keeps us from speaking with `peer`, in a sentence; "" where nothing of the kind is known."""
        theirs = self._theirs.get(peer)
        trouble = version_trouble(peer, theirs, self.ours) if theirs else None
        return "; ".join(trouble) if trouble else ""
