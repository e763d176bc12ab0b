"""Somebody who is in none of the groups, and tries to be heard all the same: at doors, at entrances, in gossip.

What it does is called by names (`simulations.plan.scenario.StrangerTrick`); those with tokens are in
`simulations.faults.knocker`.
"""

from collections import deque
from collections.abc import Sequence
from random import Random

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, ENTRANCE_PROTOCOL, Stream, StreamClosed, Unreachable
from protocol.keys import NodeId, node_id_of, public_key_of
from simulations.world.network import SimulatedWorld
from simulations.world.network_node import SimulatedNetwork
from simulations.world.watch import WatchedWorld

PROTOCOLS = (CONTROL_PROTOCOL, BLOB_PROTOCOL, ENTRANCE_PROTOCOL)
KNOCK_EVERY_S = 5.0
FLOOD_EVERY_S = 0.5  # a hundred and twenty times as often as an entrance takes it from one address
FLOOD_STREAMS = 12  # opened each time, and held
NOISE_BYTES = 200
OVERHEARD_MAX = 200  # frames that it remembers; the newest, which are the most likely to be taken for true
REPLAYED = 5  # of these, each time


def stranger_key(number: int, seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(Random(f"stranger {number} of {seed}").randbytes(32))


class Stranger:
    """One key that should open nothing. `victims`: whom it speaks to. `topic`: what it gossips on, where it knows."""

    def __init__(
        self,
        world: SimulatedWorld,
        key: Ed25519PrivateKey,
        random: Random,
        victims: Sequence[NodeId],
        topic: str = "",
    ) -> None:
        self._network: SimulatedNetwork = world.network(node_id_of(public_key_of(key)))
        self._network.set_door(lambda peer: True)
        if isinstance(world, WatchedWorld):
            world.disowned.add(self._network.node_id)
        self._world = world
        self._random = random
        self._victims = victims
        self._topic = topic
        self._overheard: deque[bytes] = deque(maxlen=OVERHEARD_MAX)

    async def live(self, tricks: Sequence[str]) -> None:
        """Do these again and again until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._network.run)
            if "replay" in tricks:
                self._world.on_frame(self._overheard.append)
            if "flood" in tricks:
                nursery.start_soon(self._flood)
            while True:
                await trio.sleep(KNOCK_EVERY_S)
                victim = self._choose()
                if "noise" in tricks:
                    await self._make_noise(victim)
                if "replay" in tricks:
                    await self._replay(victim)

    def _choose(self) -> NodeId:
        victim = self._random.choice(self._victims)
        self._network.learn(victim, *self._world.addresses_of(victim))
        return victim

    async def _make_noise(self, victim: NodeId) -> None:
        """Speak every protocol, and gossip, without a word of sense."""
        for protocol in PROTOCOLS:
            await self._say(victim, protocol, [self._random.randbytes(NOISE_BYTES)])
        if self._topic:
            await self._network.publish(self._topic, self._random.randbytes(NOISE_BYTES))

    async def _replay(self, victim: NodeId) -> None:
        """Say, under its own name, what others have said to each other."""
        heard = list(self._overheard)
        frames = self._random.sample(heard, min(REPLAYED, len(heard)))
        for protocol in PROTOCOLS:
            await self._say(victim, protocol, frames)
        for frame in frames if self._topic else ():
            await self._network.publish(self._topic, frame)

    async def _flood(self) -> None:
        """Take all of an entrance's places, and every attempt of a minute, one victim after another."""
        held: deque[Stream] = deque()
        while True:
            await trio.sleep(FLOOD_EVERY_S)
            victim = self._choose()
            for _ in range(FLOOD_STREAMS):
                try:
                    held.append(await self._network.open(victim, ENTRANCE_PROTOCOL))
                except (Unreachable, StreamClosed):
                    break
            while len(held) > 2 * FLOOD_STREAMS:
                await held.popleft().reset()

    async def _say(self, victim: NodeId, protocol: str, frames: Sequence[bytes]) -> None:
        try:
            stream = await self._network.open(victim, protocol)
            for frame in frames:
                await stream.send_frame(frame)
            await stream.close()
        except (Unreachable, StreamClosed):
            return  # as it should be
