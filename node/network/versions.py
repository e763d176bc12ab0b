"""Who speaks which versions of the protocol, as far as it matters: told in the log once for each peer and version."""

import logging

from node.seams import Unreachable
from protocol import version
from protocol.keys import NodeId
from protocol.version import version_trouble

log = logging.getLogger("fednode.network")

LINES_MAX = 8  # in the log, about one peer: it may change its mind as often as it likes
PEERS_MAX = 1024  # of whom it is remembered; strangers at the entrance are among them


class OtherVersion(Unreachable):
    """The peer speaks other versions of the protocol than this node."""


class Versions:
    """What peers have said. `ours`: what this node speaks."""

    def __init__(self, ours: tuple[int, ...] = ()) -> None:
        self.ours = ours or (version.PROTOCOL_VERSION,)
        self._theirs: dict[NodeId, tuple[int, ...]] = {}
        self._lines: dict[NodeId, int] = {}

    def note(self, peer: NodeId, theirs: tuple[int, ...]) -> tuple[str, str] | None:
        """`peer` says what it speaks. What keeps us apart and what to do, or None."""
        trouble = version_trouble(peer, theirs, self.ours)
        before = self._theirs.pop(peer, None)
        if trouble is None:
            return None
        self._theirs[peer] = theirs
        if before != theirs:
            self._lines[peer] = lines = self._lines.pop(peer, 0) + 1
            log.log(logging.WARNING if lines <= LINES_MAX else logging.DEBUG, "%s; %s", *trouble)
        for known in (self._theirs, self._lines):
            if len(known) > PEERS_MAX:
                del known[next(iter(known))]
        return trouble

    def agreed(self, peer: NodeId) -> None:
        """`peer` has just spoken our version."""
        self._theirs.pop(peer, None)

    def trouble(self, peer: NodeId) -> str:
        """What keeps us from speaking with `peer`, in a sentence; "" where nothing of the kind is known."""
        theirs = self._theirs.get(peer)
        trouble = version_trouble(peer, theirs, self.ours) if theirs else None
        return "; ".join(trouble) if trouble else ""
