"""Somebody who is in none of the groups, and tries to be heard all the same: at doors, at entrances, in gossip."""

from random import Random
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, ENTRANCE_PROTOCOL, StreamClosed, Unreachable
from protocol.keys import NodeId, node_id_of, public_key_of
from simulations.network import SimulatedWorld
from simulations.network_node import SimulatedNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

KNOCK_EVERY_S = 5.0
NOISE_BYTES = 200


async def intrude(world: SimulatedWorld, number: int, seed: int, victims: "Sequence[NodeId]", topic: str) -> None:
    """Be stranger `number` until cancelled: speak every protocol at every node, one node each few seconds."""
    random = Random(f"stranger {number} of {seed}")
    key = Ed25519PrivateKey.from_private_bytes(random.randbytes(32))
    network = world.network(node_id_of(public_key_of(key)))
    network.set_door(lambda peer: True)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        while True:
            await trio.sleep(KNOCK_EVERY_S)
            victim = random.choice(victims)
            network.learn(victim, *world.addresses_of(victim))
            for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, ENTRANCE_PROTOCOL):
                await _say(network, victim, protocol, random.randbytes(NOISE_BYTES))
            await network.publish(topic, random.randbytes(NOISE_BYTES))


async def _say(network: SimulatedNetwork, victim: NodeId, protocol: str, noise: bytes) -> None:
    try:
        stream = await network.open(victim, protocol)
        await stream.send_frame(noise)
        await stream.close()
    except (Unreachable, StreamClosed):
        return  # as it should be
