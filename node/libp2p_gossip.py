"""GossipSub, with the library's traps closed: nothing a member sends can end it, and no message waits in its queues.

A message goes to its readers from the validator, which alone is told who handed it to us; the library's own delivery
drops above 32 waiting messages. The payload's author is for the payload to prove.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.tools.anyio_service import background_trio_service

from node.door import Door
from node.feeds import GossipFeed, GossipRegister
from node.seams import Gossip
from protocol.errors import LocalProtocolError
from protocol.keys import NodeId
from protocol.limits import GOSSIP_BYTES_MAX

log = logging.getLogger("fednode.network")

HEARTBEAT_S = 1  # the library's default of two minutes is how long a mesh would stay broken
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12  # GossipSub v1.0's recommendation
RPCS_WAITING_MAX = 1024  # for one peer; the library's 32 are fewer than the operations of one sync


class _Router(GossipSub):
    """GossipSub's mesh. What a peer's subscription sets off runs as a task of its own; it must not raise."""

    async def flush_pending_messages(self, peer_id: ID) -> None:
        await _harmless(super().flush_pending_messages(peer_id))

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        await _harmless(super().on_peer_subscribed(peer_id, topic))

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()  # the library keeps the time of every message for ever


class _Pubsub(Pubsub):
    """Delivery, validation, forwarding. A message whose signature cannot even be read must not raise either."""

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        await _harmless(super().push_msg(msg_forwarder, msg))

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Nothing: the validator has delivered it."""

    def _forget_all_subscriptions(self, peer_id: ID) -> None:
        """A peer says what it subscribes to once, on a new connection. When the news of an old connection's end comes
        after that, forgetting it would cut the peer off for as long as the new one lasts."""
        if self._peer_is_connected(peer_id):
            self._replayed_recent_topics.pop(peer_id, None)  # what went down with the old stream is sent again
        else:
            super()._forget_all_subscriptions(peer_id)

    async def handle_sending_messages(self, peer_id: ID, stream: INetStream, queue: RpcQueue) -> None:
        queue._queue.max_size = RPCS_WAITING_MAX
        await _harmless(super().handle_sending_messages(peer_id, stream, queue))


async def _harmless(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - in the library's task this would end the host
        log.debug("gossip: %r", error)


class Libp2pGossip:
    """Topics over one host. The host must run before `run` does."""

    def __init__(self, host: BasicHost, door: Door, guarded: Callable[[Any], Any]) -> None:
        self._door = door
        self._me = host.get_id()
        self._register = GossipRegister()
        self._wanted: trio.Event = trio.Event()
        router = _Router(
            [PROTOCOL_ID_V12],
            DEGREE,
            DEGREE_LOW,
            DEGREE_HIGH,
            heartbeat_interval=HEARTBEAT_S,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,  # it drops above 10 messages a second, and only members are here
            eclipse_protection_enabled=False,  # it distrusts several peers at one address: a hospital behind NAT
        )
        self._router = router
        self._pubsub = _Pubsub(host, router, strict_signing=True)
        # Message ids come from it. Counting from seconds, a node that restarts repeats ids that peers still remember.
        self._pubsub.counter = time.time_ns()
        for protocol in router.get_protocols():
            host.set_stream_handler(protocol, guarded(self._listen))

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            task_status.started()
            while True:
                await self._follow_the_register()
                await self._wanted.wait()
                self._wanted = trio.Event()

    async def _follow_the_register(self) -> None:
        """Subscribe to the topics that have readers, and to no others."""
        wanted = self._register.topics
        for topic in wanted:
            if topic not in self._pubsub.topic_ids:
                self._pubsub.set_topic_validator(topic, self._deliver, False)
                await self._pubsub.subscribe(topic)
        for topic in list(self._pubsub.topic_ids):
            if topic not in wanted:
                await self._pubsub.unsubscribe(topic)
                self._pubsub.remove_topic_validator(topic)

    async def _listen(self, stream: INetStream) -> None:
        """Let GossipSub read a peer's stream, counting what reaches it from whom it should not."""
        peer = NodeId(stream.muxed_conn.peer_id.to_base58())
        read = stream.read

        async def counted_read(n: int | None = None) -> bytes:
            data = await read(n)
            if not self._door.admits(peer):
                # The door has closed while the connection is still being cut.
                raise StreamEOF("the peer is not admitted any more")
            self._door.handed_over(peer, PROTOCOL_ID_V12, len(data))
            return data

        stream.read = counted_read  # type: ignore[method-assign]
        await self._pubsub.stream_handler(stream)

    def _deliver(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        """The validator: hand a message to its readers. False, so that it goes no further, for strangers."""
        if forwarder == self._me:
            return True
        peer = NodeId(forwarder.to_base58())
        if not self._door.admits(peer) or len(message.data) > GOSSIP_BYTES_MAX:
            return False
        for topic in message.topicIDs:
            self._register.heard(topic, Gossip(peer, message.data))
        return True

    async def publish(self, topic: str, data: bytes) -> None:
        if len(data) > GOSSIP_BYTES_MAX:
            raise LocalProtocolError(
                f"A gossip message of {len(data)} bytes is over {GOSSIP_BYTES_MAX}", remedy="send it over a stream"
            )
        await trio.lowlevel.checkpoint()
        await _harmless(self._pubsub.publish(topic, data))

    def subscribe(self, topic: str) -> GossipFeed:
        return self._register.feed(topic, self._look_again, self._look_again)

    def _look_again(self) -> None:
        self._wanted.set()
