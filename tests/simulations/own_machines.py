"""The machines of people on one simulated network, and what tests of them ask for again and again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import trio

from node.node import Node
from protocol.keys import GroupId
from simulations.nodes.simulated_node import SimulatedNode, in_process_trainer
from simulations.world.deterministic import run_deterministically
from simulations.world.deterministic import until as until_ever
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

HOUR = 3600
SOON_S = 300.0  # of virtual time: several rounds of whatever nodes do now and then


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(SOON_S):
        await until_ever(lambda: bool(condition()))


class Machines:
    """Nodes of people who were never introduced, on one network."""

    def __init__(self, base: Path, nursery: trio.Nursery) -> None:
        self._world = SimulatedWorld(Random(1))
        self._store = SharedStore()
        self._base = base
        self.nursery = nursery
        self._all: dict[str, SimulatedNode] = {}

    async def begin(self) -> None:
        await self.nursery.start(self._world.run)

    async def start(self, name: str) -> Node:
        machine = self._all.get(name)
        if machine is None:
            number = len(self._all)
            folder = self._base / name
            folder.mkdir()
            machine = SimulatedNode(number, 1, self._world, self._store, folder, in_process_trainer(1000.0))
            machine.name = name
            self._all[name] = machine
        return await self.nursery.start(machine.live)

    def stop(self, name: str) -> None:
        self._all[name].kill()

    def forget_member_key(self, name: str) -> None:
        """A linked home has none: from its next start on, so has the simulated one."""
        self._all[name].keys = replace(self._all[name].keys, member_key=None)

    async def link(self, maker: Node, name: str) -> Node:
        node = await self.start(name)
        made = await maker.linker.make(HOUR)
        await node.service.join(made.token)
        self.forget_member_key(name)
        return node


@asynccontextmanager
async def machines(base: Path) -> AsyncIterator[Machines]:
    async with trio.open_nursery() as nursery:
        found = Machines(base, nursery)
        await found.begin()
        yield found
        nursery.cancel_scope.cancel()


def played(base: Path, story: Callable[[Machines], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with machines(base) as found:
            await story(found)

    run_deterministically(1, main)


def groups_of(node: Node) -> set[str]:
    """Those in which it is."""
    return {place.state().name for place in node.siblings.groups.ours()}


async def group(node: Node, name: str) -> GroupId:
    await node.service.create_group(name)
    return next(place.group for place in node.groups.places.values() if place.state().name == name)
