"""GossipSub, with the library's traps closed: nothing a member sends can end it, and no message waits in its queues.

A message goes to its readers from the validator, which alone is told who handed it to us; the library's own delivery
drops above 32 waiting messages. The payload's author is for the payload to prove.
"""

import time
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service

from node.network.conduct import Allowance
from node.network.door import Door
from node.network.feeds import GossipFeed, GossipRegister
from node.network.libp2p.pubsub import GuardedPubsub, GuardedRouter, harmless
from node.seams import Gossip
from protocol.errors import LocalProtocolError
from protocol.keys import NodeId
from protocol.limits import GOSSIP_BYTES_MAX, PEER_GOSSIP_BYTES_BURST, PEER_GOSSIP_BYTES_PER_S

HEARTBEAT_S = 1  # the library's default of two minutes is how long a mesh would stay broken
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12  # GossipSub v1.0's recommendation


class Libp2pGossip:
    """Topics over one host. The host must run before `run` does."""

    def __init__(self, host: BasicHost, door: Door, guarded: Callable[[Any], Any]) -> None:
        self._door = door
        self._me = host.get_id()
        self._register = GossipRegister()
        self._wanted: trio.Event = trio.Event()
        router = GuardedRouter(
            [PROTOCOL_ID_V12],
            DEGREE,
            DEGREE_LOW,
            DEGREE_HIGH,
            heartbeat_interval=HEARTBEAT_S,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,  # it drops above 10 messages a second, and only members are here
            eclipse_protection_enabled=False,  # it distrusts several peers at one address: a hospital behind NAT
        )
        router.audience = self._is_for
        self._router = router
        self._pubsub = GuardedPubsub(host, router, strict_signing=True, audience=self._is_for)
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
        self._pubsub.look_again()

    async def _listen(self, stream: INetStream) -> None:
        """Let GossipSub read a peer's stream, counting what reaches it from whom it should not."""
        peer = NodeId(stream.muxed_conn.peer_id.to_base58())
        allowance = Allowance(PEER_GOSSIP_BYTES_BURST, PEER_GOSSIP_BYTES_PER_S, trio.current_time())
        read = stream.read

        async def counted_read(n: int | None = None) -> bytes:
            data = await read(n)
            if not self._door.admits(peer):
                # The door has closed while the connection is still being cut.
                raise StreamEOF("the peer is not admitted any more")
            self._door.handed_over(peer, PROTOCOL_ID_V12, len(data))
            if pause := allowance.spend(len(data), trio.current_time()):
                await trio.sleep(pause)
            return data

        stream.read = counted_read  # type: ignore[method-assign]
        await self._pubsub.stream_handler(stream)

    def _deliver(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        """The validator: hand a message to its readers. Its answer must hold of the message whoever brings it, for the
        library remembers it."""
        if forwarder == self._me:
            return True
        if len(message.data) > GOSSIP_BYTES_MAX:
            return False
        peer = NodeId(forwarder.to_base58())
        for topic in message.topicIDs:
            self._register.heard(topic, Gossip(peer, message.data))
        return True

    async def publish(self, topic: str, data: bytes) -> None:
        if len(data) > GOSSIP_BYTES_MAX:
            raise LocalProtocolError(
                f"A gossip message of {len(data)} bytes is over {GOSSIP_BYTES_MAX}", remedy="send it over a stream"
            )
        await trio.lowlevel.checkpoint()
        await harmless(self._pubsub.publish(topic, data))

    def subscribe(self, topic: str, readers: Callable[[NodeId], bool]) -> GossipFeed:
        return self._register.feed(topic, self.look_again, self.look_again, readers)

    def _is_for(self, topic: str, peer: ID) -> bool:
        node = NodeId(peer.to_base58())
        return self._door.admits(node) and self._register.is_for(topic, node)

    def look_again(self) -> None:
        """Which topics are read, or for whom they are, has changed."""
        self._wanted.set()
