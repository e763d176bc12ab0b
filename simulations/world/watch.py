"""Looks at a simulation from outside: what nodes send each other in runs, what becomes durable, who comes and goes.

Decides what counts as one thing that happened, and keeps the last of them for people to read. Nothing of a node's
inside is asked: frames are read off the wire and records off the disk, as plain msgpack.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack
import trio

from protocol.keys import NodeId
from protocol.wire import hash_of
from simulations.world.network import SimulatedWorld
from simulations.world.network_stream import Item, SimulatedStream
from simulations.world.network_wires import WireProfile

# How the control frame [channel, payload] of a run begins in msgpack: two entries, the first the text "run".
_RUN_FRAME = b"\x92\xa3run"
_RUN_JOURNAL = "run-"
# Of the newest happenings, for the report on a violation: a few election timeouts of a small group.
KEPT_HAPPENINGS = 6000


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened at virtual `time`, in seconds.

    `kind`: "sends" (a message of a run to `peer`), "keeps" (a record of a run's journal is durable), "dies", "starts",
    or "fault" (with its text in `what["text"]`). `what`: the message or record as plain values.
    """

    time: float
    kind: str
    node: NodeId
    peer: NodeId
    what: Mapping[str, Any]


Listener = Callable[[Happening], None]


class Watch:
    """Tells listeners of everything that happens, in its order."""

    def __init__(self) -> None:
        self.last: deque[Happening] = deque(maxlen=KEPT_HAPPENINGS)
        self.count = 0
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener`, which must not raise, with all that happens from now on."""
        self._listeners.append(listener)

    def tell(self, kind: str, node: NodeId, peer: NodeId, what: Mapping[str, Any]) -> None:
        happening = Happening(trio.current_time(), kind, node, peer, what)
        self.count += 1
        self.last.append(happening)
        for listener in self._listeners:
            listener(happening)

    def on_frame(self, source: NodeId, target: NodeId, frame: bytes) -> None:
        if frame.startswith(_RUN_FRAME):
            payload = msgpack.unpackb(frame, use_list=False)[1]
            self.tell("sends", source, target, msgpack.unpackb(payload, use_list=False))

    def on_append(self, node: NodeId, journal: str, record: bytes) -> None:
        if journal.startswith(_RUN_JOURNAL):
            self.tell("keeps", node, node, msgpack.unpackb(record, use_list=False))


class WatchedWorld(SimulatedWorld):
    """A simulated world whose frames are shown to a watch, and in which a node can be struck dumb at once."""

    def __init__(self, random: Random, profile: WireProfile, watch: Watch) -> None:
        super().__init__(random, profile)
        self.muted: set[NodeId] = set()
        self.disowned: set[NodeId] = set()  # whose keys others have: what they say is no node's word
        self._watch = watch

    def observe(self, kind: str, source: NodeId, target: NodeId, data: bytes = b"") -> None:
        super().observe(kind, source, target, data)
        if kind == "frame" and source not in self.disowned:
            self._watch.on_frame(source, target, data)

    def carry(self, stream: SimulatedStream, item: Item, size: int) -> None:
        """Nothing more leaves a muted node, not even what it sends in the same instant."""
        if stream.network.node_id not in self.muted:
            super().carry(stream, item, size)


# --- reading for people ----------------------------------------------------------------------------------------------
def signed_body(envelope: bytes) -> Mapping[str, Any]:
    """What was signed, as plain values; whether the signature holds is not asked."""
    body: Mapping[str, Any] = msgpack.unpackb(msgpack.unpackb(envelope)["b"], use_list=False)
    return body


def checkpoint_hash(envelope: bytes) -> str:
    """The name of the checkpoint in an envelope; of none, that of the starting one, which travels as no bytes."""
    return hash_of(msgpack.unpackb(envelope)["b"]) if envelope else ""


def readable(happening: Happening, name_of: Mapping[NodeId, str]) -> str:
    """One line: when, and what the node did."""
    what = happening.what
    if happening.kind in ("dies", "starts"):
        text = happening.kind
    elif happening.kind == "fault":
        text = f"*** {what['text']}"
    else:
        said = " ".join(_words(what, name_of))
        to = f" to {name_of.get(happening.peer, happening.peer[-8:])}" if happening.kind == "sends" else ""
        text = f"{happening.kind}{to}: {said}"
    return f"{happening.time:12.3f} s  {text}"


def _words(what: Mapping[str, Any], name_of: Mapping[NodeId, str]) -> Iterator[str]:
    yield str(what.get("kind", "?"))
    for key in ("term", "round", "committed_round", "have_round", "stored_term", "stored_round", "granted", "opened"):
        if key in what:
            yield f"{key}={what[key]}"
    if "voted_for" in what:
        yield f"for {name_of.get(what['voted_for'], 'nobody yet')}"
    if "state" in what:
        yield f"state={what['state']}"
    for key in ("issue", "ack", "offer", "receipt"):
        if isinstance(what.get(key), bytes):
            body = signed_body(what[key])
            yield f"{key}(term={body['term']} round={body['round']})" if "term" in body else f"round={body['round']}"
            if "checkpoint" in body:
                yield f"checkpoint {body['checkpoint'][:8]}"
    if isinstance(what.get("checkpoint"), bytes):
        yield f"[{checkpoint_hash(what['checkpoint'])[:8] or 'starting checkpoint'}]"
    if "acks" in what:
        yield f"{len(what['acks'])} acks"
