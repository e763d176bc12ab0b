"""The library's GossipSub behind bounds of ours: what a peer learns of topics, what it can ask for, what it can break.

A topic is for some peers (`Audience`). To others nothing about it is written, whatever the library has to say: that we
read it, its messages, its mesh. From others nothing about it is taken. Both stand at one place each, where RPCs go out
and where what came in is looked at, so that no part of the library can forget it.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.utils import safe_bytes_from_hex

from node.network.conduct import Allowances
from protocol.limits import GOSSIP_BYTES_MAX, PEER_GOSSIP_BURST, PEER_GOSSIP_PER_S

log = logging.getLogger("fednode.network")

RPCS_WAITING_MAX = 1024  # for one peer; the library's 32 are fewer than the operations of one sync
TOPIC_CHARACTERS_MAX = 128  # ours have 80
EARLY_TOPICS_MAX = 64  # of one peer: that it reads, while it is not among their readers yet
WANTED_IDS_MAX = 512  # in one IHAVE or IWANT; the library sends a message as often as it is asked for in one breath

Audience = Callable[[str, ID], bool]  # whether a topic is for a peer


async def harmless(work: Awaitable[None]) -> None:
    """Do `work`; what it raises would end the host if it got into the library's task."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - see above
        log.debug("gossip: %r", error)


class GuardedRouter(GossipSub):
    """GossipSub's mesh. What a peer's subscription sets off runs as a task of its own; it must not raise."""

    audience: Audience = staticmethod(lambda topic, peer: True)

    async def flush_pending_messages(self, peer_id: ID) -> None:
        await harmless(super().flush_pending_messages(peer_id))

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        await harmless(super().on_peer_subscribed(peer_id, topic))

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()  # the library keeps the time of every message for ever

    async def handle_ihave(self, ihave_msg: rpc_pb2.ControlIHave, sender_peer_id: ID) -> None:
        if self._is_ours(ihave_msg.topicID, sender_peer_id):
            few = list(ihave_msg.messageIDs)[:WANTED_IDS_MAX]
            await super().handle_ihave(rpc_pb2.ControlIHave(topicID=ihave_msg.topicID, messageIDs=few), sender_peer_id)

    async def handle_iwant(self, iwant_msg: rpc_pb2.ControlIWant, sender_peer_id: ID) -> None:
        """The library puts all that is asked for into one RPC, each as often as it is asked for; above 1 MiB it is
        dropped where it arrives."""
        wanted: list[bytes] = []
        size = 0
        for message_id in list(dict.fromkeys(iwant_msg.messageIDs))[:WANTED_IDS_MAX]:
            raw = safe_bytes_from_hex(message_id)
            message = self.mcache.get(raw) if raw is not None else None
            if message is not None and (size := size + len(message.data)) <= GOSSIP_BYTES_MAX:
                wanted.append(message_id)
        await super().handle_iwant(rpc_pb2.ControlIWant(messageIDs=wanted), sender_peer_id)

    async def handle_graft(self, graft_msg: rpc_pb2.ControlGraft, sender_peer_id: ID) -> None:
        if self._is_ours(graft_msg.topicID, sender_peer_id):
            await super().handle_graft(graft_msg, sender_peer_id)

    async def _do_px(self, px_peers: list[rpc_pb2.PeerInfo]) -> None:
        """Nothing: whom to dial is the node's affair, and not a peer's who prunes us."""

    def _is_ours(self, topic: str, peer: ID) -> bool:
        return topic in self.mesh and self.audience(topic, peer)


class GuardedPubsub(Pubsub):
    """Delivery, validation, forwarding, for audiences. A message whose signature cannot even be read must not raise."""

    def __init__(self, *args: Any, audience: Audience, **options: Any) -> None:
        super().__init__(*args, **options)
        self._audience = audience
        self._allowances = Allowances(PEER_GOSSIP_BURST, PEER_GOSSIP_PER_S)
        self._told: dict[ID, set[str]] = {}  # to which peers we have said that we read which topics
        self._early: dict[ID, deque[str]] = {}  # what peers read that is not for them, as far as we know yet

    # --- what comes in -------------------------------------------------------------------------------------------
    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Looked at before the library remembers anything of it: what a peer may not bring, another one may."""
        if msg_forwarder != self.my_id:
            if not all(self._audience(topic, msg_forwarder) for topic in msg.topicIDs):
                return
            now = trio.current_time()
            if not self._allowances.of(msg_forwarder, now).take(1, now):
                return
        await harmless(super().push_msg(msg_forwarder, msg))

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Nothing: the validator has delivered it."""

    def handle_subscription(self, origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        topic = sub_message.topicid
        if len(topic) > TOPIC_CHARACTERS_MAX:
            return
        early = self._early.setdefault(origin_id, deque(maxlen=EARLY_TOPICS_MAX))
        if topic in early:
            early.remove(topic)
        if self._audience(topic, origin_id):
            super().handle_subscription(origin_id, sub_message)
        elif sub_message.subscribe:
            early.append(topic)  # it may know sooner than we that it belongs to us

    def _forget_all_subscriptions(self, peer_id: ID) -> None:
        """A peer says what it subscribes to once, on a new connection. When the news of an old connection's end comes
        after that, forgetting it would cut the peer off for as long as the new one lasts."""
        if self._peer_is_connected(peer_id):
            self._replayed_recent_topics.pop(peer_id, None)  # what went down with the old stream is sent again
        else:
            super()._forget_all_subscriptions(peer_id)
            self._allowances.forget(peer_id)
            for known in (self._early, self._told):
                known.pop(peer_id, None)

    # --- what goes out -------------------------------------------------------------------------------------------
    def get_hello_packet(self) -> rpc_pb2.RPC:
        """Without topics: who may know of which is known where the peer is."""
        packet = super().get_hello_packet()
        del packet.subscriptions[:]
        return packet

    async def _handle_new_peer(self, peer_id: ID) -> None:
        if peer_id not in self.peers:
            self._told.pop(peer_id, None)
        await super()._handle_new_peer(peer_id)
        self._tell(peer_id)

    async def message_all_peers(self, raw_msg: bytes, announce: rpc_pb2.RPC.SubOpts | None = None) -> None:
        await super().message_all_peers(raw_msg, announce)
        for peer_id in tuple(self.peers) if announce is not None else ():
            told = self._told.setdefault(peer_id, set())
            if announce.subscribe and self._audience(announce.topicid, peer_id):  # type: ignore[union-attr]
                told.add(announce.topicid)  # type: ignore[union-attr]
            else:
                told.discard(announce.topicid)  # type: ignore[union-attr]

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        fit = self._for_peer(stream.muxed_conn.peer_id, rpc_msg)
        return fit is None or await super().write_msg(stream, fit)

    def _for_peer(self, peer: ID, rpc: rpc_pb2.RPC) -> rpc_pb2.RPC | None:
        """What of `rpc` is for `peer`; None where nothing is. Others may be sent the same object: a copy is cut."""

        def is_for(entry: Any) -> bool:
            return all(self._audience(topic, peer) for topic in _topics_of(entry))

        if all(is_for(entry) for part in _parts_with_topics(rpc) for entry in part):
            return rpc
        fit = rpc_pb2.RPC()
        fit.CopyFrom(rpc)
        for part in _parts_with_topics(fit):
            kept = [entry for entry in part if is_for(entry)]
            del part[:]
            part.extend(kept)
        empty = rpc_pb2.RPC(senderRecord=fit.senderRecord)
        if not fit.control.ByteSize():
            fit.ClearField("control")
        return None if fit.SerializeToString() == empty.SerializeToString() else fit

    async def handle_sending_messages(self, peer_id: ID, stream: INetStream, queue: RpcQueue) -> None:
        queue._queue.max_size = RPCS_WAITING_MAX
        await harmless(super().handle_sending_messages(peer_id, stream, queue))

    # --- whom a topic is for has changed -------------------------------------------------------------------------
    def look_again(self) -> None:
        """Tell those of a topic for whom it is now, and take in what they had said too early; drop the others."""
        for peer_id in tuple(self.peers):
            self._tell(peer_id)
            for topic in tuple(self._early.get(peer_id, ())):
                if self._audience(topic, peer_id):
                    self.handle_subscription(peer_id, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic))
        for topic, peers in list(self.peer_topics.items()):
            for peer_id in [peer for peer in peers if not self._audience(topic, peer)]:
                self._forget_subscription(peer_id, topic)
                self.handle_subscription(peer_id, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic))
                for circle in (self.router.mesh, self.router.fanout):
                    circle.get(topic, set()).discard(peer_id)

    def _tell(self, peer_id: ID) -> None:
        """Say to a peer which topics we read that are for it, once."""
        queue, told = self.peer_queues.get(peer_id), self._told.setdefault(peer_id, set())
        for topic in list(self.topic_ids) if queue is not None else ():
            is_for = self._audience(topic, peer_id)
            if is_for and topic not in told:
                packet, announce = self._build_announce_rpc(topic, subscribe=True)
                assert queue is not None
                self._enqueue_or_retry_announce(peer_id, queue, packet, announce)
                told.add(topic)
            elif not is_for:
                told.discard(topic)


def _parts_with_topics(rpc: rpc_pb2.RPC) -> list[Any]:
    control = [rpc.control.ihave, rpc.control.graft, rpc.control.prune] if rpc.HasField("control") else []
    return [rpc.subscriptions, rpc.publish, *control]


def _topics_of(entry: Any) -> Iterable[str]:
    """Of an entry of an RPC's lists: each kind names its topic otherwise."""
    if isinstance(entry, rpc_pb2.Message):
        return tuple(entry.topicIDs)
    return (entry.topicid if isinstance(entry, rpc_pb2.RPC.SubOpts) else entry.topicID,)
