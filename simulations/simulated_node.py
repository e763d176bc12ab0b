"""One node of a simulation: the real node.Node on simulated seams, with keys that follow from the seed."""

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from node.node import Node
from protocol.keys import node_id_of, public_key_of
from protocol.presence import Capacity
from simulations.disk import SimulatedDisk
from simulations.network import SimulatedWorld
from simulations.record import SharedStore, SimulatedRecord
from simulations.trainer import InProcessTrainer

if TYPE_CHECKING:
    from trio_typing import TaskStatus

# Virtual time begins here, so that nothing depends on when a simulation is run.
EPOCH_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_GIBIBYTE = 1024**3


def virtual_now() -> float:
    """The wall clock of a simulation."""
    return EPOCH_S + trio.current_time()


async def live(
    number: int,
    seed: int,
    world: SimulatedWorld,
    store: SharedStore,
    folder: Path,
    samples_per_s: float = 2000.0,
    *,
    task_status: "TaskStatus[Node]",
) -> None:
    """Be node `number` of the simulation `seed` until cancelled; started with the node. `folder`: its task's state."""
    random = Random(f"node {number} of {seed}")
    key = Ed25519PrivateKey.from_private_bytes(random.randbytes(32))
    node_id = node_id_of(public_key_of(key))
    network = world.network(node_id)
    node = Node(
        key=key,
        member_key=Ed25519PrivateKey.from_private_bytes(random.randbytes(32)),
        seal_key=X25519PrivateKey.from_private_bytes(random.randbytes(32)),
        name=f"node-{number}",
        network=network,
        disk=SimulatedDisk(),
        trainer=InProcessTrainer(folder, samples_per_s),
        record=SimulatedRecord(node_id, store),
        random=random,
        version="simulated",
        capacity=lambda: Capacity(
            cpu_cores=2, memory_bytes=8 * _GIBIBYTE, memory_free_bytes=4 * _GIBIBYTE, disk_free_bytes=64 * _GIBIBYTE
        ),
        home=str(folder),
        now=virtual_now,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        async with node:
            await nursery.start(node.run)
            task_status.started(node)
            await trio.sleep_forever()
