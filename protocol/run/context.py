"""What the parts of one run's machine share: who we are, the time, and the outputs under way."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.keys import NodeId, RunId
from protocol.run.checkpoint import sign_note
from protocol.run.directions import Directions
from protocol.run.events import Persist, Received, Recomputed, RunOutput, RunSettings, Send, SetTimer
from protocol.run.messages import RunMessage
from protocol.wire import Wire, pack


@dataclass(slots=True)
class RunContext:
    """`voters` are those of the newest stored checkpoint, by rank; `eligible` is everybody who was ever ready to vote.

    `jitter` gives numbers in [0, 1) from a seeded source; `now` is the time, in seconds, of the event
    at hand. `deposed` says of nodes that lied what they did."""

    me: NodeId
    key: Ed25519PrivateKey
    run: RunId
    voters: tuple[NodeId, ...]
    settings: RunSettings
    jitter: Callable[[], float]
    now: float = 0.0
    eligible: frozenset[NodeId] = frozenset()
    directions: Directions = field(default_factory=Directions)
    deposed: dict[NodeId, str] = field(default_factory=dict)
    is_member: Callable[[NodeId], bool] = lambda node: True
    out: list[RunOutput] = field(default_factory=list)
    to_self: deque[Received | Recomputed] = field(default_factory=deque)

    def send(self, peer: NodeId, message: RunMessage) -> None:
        """To ourselves it goes around the network, and is handled after the event at hand."""
        if peer == self.me:
            self.to_self.append(Received(peer, message))
        else:
            self.out.append(Send(peer, message))

    def send_all(self, peers: Iterable[NodeId], message: RunMessage) -> None:
        for peer in peers:
            if peer != self.me:
                self.out.append(Send(peer, message))

    def persist(self, record: Wire) -> None:
        self.out.append(Persist(pack(record)))

    def set_timer(self, name: str, after_s: float) -> None:
        self.out.append(SetTimer(name, max(0.0, after_s)))

    def sign(self, note: Wire) -> bytes:
        return sign_note(self.key, note)
