"""A blob that spreads from one simulated node to many over slow lines, for tests and for the bench."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio._core import _run
from trio.testing import MockClock

from node.network.bulk.bulk import Bulk, Transfer
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId, node_id_of, public_key_of
from protocol.limits import CHUNK_BYTES
from simulations.world.disk import ChunkPool, SimulatedDisk
from simulations.world.network import SimulatedWorld
from simulations.world.network_node import SimulatedNetwork
from simulations.world.network_wires import WireProfile

LINE_BITS_PER_S = 10e6
VIRTUAL_S_MAX = 3600.0


class Peer:
    """One node of the swarm: its bulk transfer, its disk, and what went over it."""

    def __init__(self, network: SimulatedNetwork, pool: ChunkPool, may_read: Callable[[NodeId, BlobId], bool]) -> None:
        self.network = network
        self.disk = SimulatedDisk(pool=pool)
        self.transfers: list[Transfer] = []
        self.bulk = Bulk(network, self.disk, may_read, self.transfers.append)
        self.done_at: float | None = None

    @property
    def me(self) -> NodeId:
        return self.network.node_id

    def bytes_out(self) -> int:
        return sum(transfer.size for transfer in self.transfers if not transfer.incoming)

    def sources(self) -> set[NodeId]:
        return {transfer.peer for transfer in self.transfers if transfer.incoming}


@dataclass
class Swarm:
    """Peers with lines of LINE_BITS_PER_S both ways, the first of which has the blob."""

    world: SimulatedWorld
    nursery: trio.Nursery
    data: bytes
    peers: list[Peer] = field(default_factory=list)
    began: float = 0.0
    blob: BlobId = field(init=False)

    @property
    def copy_s(self) -> float:
        """What one copy takes over one line."""
        return len(self.data) * 8 / LINE_BITS_PER_S

    async def enter(self, count: int, may_read: Callable[[NodeId, BlobId], bool] = lambda peer, blob: True) -> None:
        pool = ChunkPool()
        for number in range(count):
            key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
            network: SimulatedNetwork = await self.nursery.start(self.world.network(node_id_of(public_key_of(key))).run)
            network.set_door(lambda peer: True)
            self.world.lines.limit(network.node_id, LINE_BITS_PER_S, LINE_BITS_PER_S)
            self.peers.append(Peer(network, pool, may_read))
            await self.nursery.start(self.peers[-1].bulk.run)
        for here in self.peers:
            for there in self.peers:
                here.network.learn(there.me, there.network.addresses())
        self.blob = await self.peers[0].disk.put_blob(self.data)
        self.began = trio.current_time()

    async def fetch(self, peer: Peer, *sources: NodeId) -> None:
        """Have a peer fetch the blob, from the first one if nobody is named. One that crashes gets none."""
        try:
            await peer.bulk.fetch(self.blob, sources or [self.peers[0].me], len(self.data))
        except FednodeError:
            if peer.network._nursery is not None:
                raise
        else:
            peer.done_at = trio.current_time() - self.began

    async def spread(self) -> None:
        """Have all fetch it from the first."""
        async with trio.open_nursery() as nursery:
            for peer in self.peers[1:]:
                nursery.start_soon(self.fetch, peer)

    def last_s(self) -> float:
        return max(peer.done_at for peer in self.peers[1:] if peer.done_at is not None)

    def origin_copies(self) -> float:
        return self.peers[0].bytes_out() / len(self.data)


def run_swarm(
    test: Callable[[Swarm], Awaitable[None]], chunks: int, *, seed: int = 1, profile: WireProfile | None = None
) -> None:
    """Run `test` in virtual time, with a blob of so many chunks. The same seed gives the same run, task by task."""
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
    data = Random(seed).randbytes(chunks * CHUNK_BYTES - 1)

    async def main() -> None:
        world = SimulatedWorld(Random(seed), profile or WireProfile(bytes_per_s=1e9))
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            with trio.fail_after(VIRTUAL_S_MAX):
                await test(Swarm(world, nursery, data))
            world.end()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
