"""Simulated networks for tests of what stands on the Network seam: some nodes that know and admit each other."""

from collections.abc import Awaitable, Callable
from random import Random

import trio
from trio._core import _run
from trio.testing import MockClock

from protocol.keys import NodeId, node_id_of
from simulations.world.network import SimulatedWorld
from simulations.world.network_node import SimulatedNetwork
from simulations.world.network_wires import WireProfile

Test = Callable[["Ground"], Awaitable[None]]


class Ground:
    """A world under virtual time, and the nursery in which its nodes live."""

    def __init__(self, world: SimulatedWorld, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self._count = 0

    async def node(self) -> SimulatedNetwork:
        self._count += 1
        return await self.again(node_id_of(self._count.to_bytes(32, "big")))

    async def again(self, node_id: NodeId) -> SimulatedNetwork:
        network: SimulatedNetwork = await self.nursery.start(self.world.network(node_id).run)
        network.set_door(lambda peer: True)
        return network

    async def nodes(self, count: int) -> list[SimulatedNetwork]:
        networks = [await self.node() for _ in range(count)]
        introduce(*networks)
        return networks


def introduce(*networks: SimulatedNetwork) -> None:
    for here in networks:
        for there in networks:
            if here is not there:
                here.learn(there.node_id, there.addresses(), there.entrance_addresses())


def run_on_simulated(test: Test, *, seed: int = 1, profile: WireProfile | None = None) -> None:
    """Run `test` in virtual time. The same seed gives the same run, task by task."""
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(seed)

    async def main() -> None:
        world = SimulatedWorld(Random(seed), profile)
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            with trio.fail_after(3600):
                await test(Ground(world, nursery))
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
