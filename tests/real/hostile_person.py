"""Somebody with real keys and, if the group lets it in, a real admission, who then speaks on the wire by hand."""

import os
import time
from collections.abc import Callable
from typing import Any

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_wire import GOSSIP_PROTOCOL, Closed, Muxed, RawStream, frame, varint
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

from node.seams import CONTROL_PROTOCOL, ENTRANCE_PROTOCOL
from protocol.entrance.invitation import open_token
from protocol.entrance.joining import Joined, Joining
from protocol.entrance.messages import EntranceMessage, Refusal, open_entrance_message
from protocol.entrance.outputs import SendFrame, TurnedAway
from protocol.group.key import GroupKey, seal_gossip, seal_key_of
from protocol.group.log import GroupLog
from protocol.identity import make_certificate
from protocol.keys import member_id_of, node_id_of, public_key_of
from protocol.wire import Wire as Message
from protocol.wire import pack

SPEAKS = (CONTROL_PROTOCOL, GOSSIP_PROTOCOL)


class Person:
    """Keys, a certificate, and what an admission gave."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.member_key, self.key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.seal_secret = os.urandom(32)
        self.node_id = node_id_of(public_key_of(self.key))
        self.member_id = member_id_of(public_key_of(self.member_key))
        self.certificate = self.certify()
        self.conversation: list[bytes] = []  # what it said when it joined
        self.log: GroupLog
        self.group_key: GroupKey

    def certify(self, *, node_key: Ed25519PrivateKey | None = None) -> bytes:
        return make_certificate(
            self.member_key,
            node_key or self.key,
            member_name=self.name,
            node_name=self.name,
            seal_key=seal_key_of(self.seal_secret),
            issued_at=int(time.time()),
        )

    def join(self, token: str, address: str, host: str) -> "Person":
        """Be let in at the entrance of the node `host`, by the rules, over our own wire. Raises Refused."""
        invitation = open_token(token, now=int(time.time()))
        machine = Joining(
            invitation,
            group=invitation.group,
            certificate=self.certificate,
            seal_secret=self.seal_secret,
            peer=host,  # type: ignore[arg-type]
        )
        with Muxed.dial(address, self.key) as muxed:
            stream = muxed.open(ENTRANCE_PROTOCOL)
            outputs = list(machine.open())
            while not isinstance(end := outputs[-1] if outputs else None, Joined):
                for output in outputs:
                    if isinstance(output, TurnedAway):
                        raise output.reason
                    assert isinstance(output, SendFrame)
                    self.conversation.append(output.frame)
                    stream.tell(frame(output.frame))
                outputs = list(machine.receive(stream.hear_frame()))
        self.log, self.group_key = end.log, end.group_key
        return self

    def knock(self, address: str, *said: Message | bytes) -> str:
        """Say something at an entrance, one frame after the other; what comes of it, in a word."""
        with Muxed.dial(address, self.key) as muxed:
            stream = muxed.open(ENTRANCE_PROTOCOL)
            for message in said:
                stream.tell(frame(message if isinstance(message, bytes) else pack(message)))
            try:
                answer = answer_in(stream)
            except Closed:
                return stream.how_it_ends()
        return f"refused: {answer.code}" if isinstance(answer, Refusal) else answer.type

    def inside(self, address: str) -> Muxed:
        """Through a node's door as a member."""
        return Muxed.dial(address, self.key, SPEAKS)

    # --- gossip --------------------------------------------------------------------------------------------------
    def sealed(self, topic: str, plain: bytes, key: GroupKey | None = None) -> bytes:
        return seal_gossip(key or self.group_key, self.log.group, topic, plain, nonce=os.urandom(12))

    def message(self, topic: str, data: bytes, *, author: Ed25519PrivateKey | None = None) -> rpc_pb2.Message:
        """A message of GossipSub's under our signature, in the name of `author`'s node or our own."""
        from_id = ID.from_base58(node_id_of(public_key_of(author or self.key))).to_bytes()
        message = rpc_pb2.Message(from_id=from_id, data=data, seqno=os.urandom(8), topicIDs=[topic])
        message.signature = self.key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
        return message


def answer_in(stream: RawStream) -> EntranceMessage:
    return open_entrance_message(stream.hear_frame())


def control(channel: object, payload: object) -> bytes:
    """A frame of a control stream."""
    return frame(msgpack.packb([channel, payload], use_bin_type=True))


def rpc(**fields: Any) -> bytes:
    """An RPC of GossipSub's, with its length before it."""
    raw: bytes = rpc_pb2.RPC(**fields).SerializeToString()
    return varint(len(raw)) + raw


class Ear:
    """A member's connection that takes part in gossip and keeps, as it came, what is said on the node's topics."""

    def __init__(self, person: Person, address: str) -> None:
        self.person = person
        self.muxed = person.inside(address)
        self.topics: set[str] = set()
        self.heard: list[tuple[str, bytes]] = []
        self._read = 0
        self.gossip = self.muxed.open(GOSSIP_PROTOCOL)

    def __enter__(self) -> "Ear":
        return self

    def __exit__(self, *_: object) -> None:
        self.muxed.wire.close()

    def listen_until(self, condition: Callable[[], object], within_s: float) -> bool:
        """Whether `condition` came to hold while we listened. Raises Closed."""
        return self.muxed.pump_until(lambda: self._take_in() or condition(), within_s)

    def _take_in(self) -> None:
        stream = self.muxed.opened_by_node.get(GOSSIP_PROTOCOL)
        while stream is not None and (raw := _next_rpc(stream)) is not None:
            said = rpc_pb2.RPC.FromString(raw)
            self.heard += [(topic, each.data) for each in said.publish for topic in each.topicIDs]
            news = {each.topicid for each in said.subscriptions if each.subscribe} - self.topics
            for topic in sorted(news):
                self.topics.add(topic)
                self.gossip.tell(rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)]))
                self.gossip.tell(rpc(control=rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=topic)])))


def _next_rpc(stream: RawStream) -> bytes | None:
    """The stream's next RPC, if it is here whole."""
    data, size, at = stream.heard(), 0, 0
    while at < len(data):
        size |= (data[at] & 0x7F) << 7 * at
        at += 1
        if not data[at - 1] & 0x80:
            return stream.hear(at + size)[at:] if len(data) >= at + size else None
    return None
