"""One node of a simulation: the real node.Node on simulated seams, with keys that follow from the seed.

Its disk, keys and folder outlive its process, which can be killed and started again: a killed node loses what was not
durable, its connections, and the last of its record, as a real one does.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgpack
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from node.node import Node
from node.run.driver import journal_name
from node.seams import Trainer
from protocol.errors import FednodeError
from protocol.group.presence import Capacity
from protocol.keys import NodeId, RunId, node_id_of, public_key_of
from simulations.training.trainer import InProcessTrainer
from simulations.world.disk import ChunkPool
from simulations.world.faulty_disk import FaultyDisk
from simulations.world.network import SimulatedWorld
from simulations.world.network_node import SimulatedNetwork
from simulations.world.record import SharedStore, SimulatedRecord

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from simulations.training.batched import BatchedTraining

# Virtual time begins here, so that nothing depends on when a simulation is run.
EPOCH_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_GIBIBYTE = 1024**3
START_AGAIN_S = 5.0  # until somebody looks after a node that does not start

log = logging.getLogger("fednode.simulated")

MakeTrainer = Callable[[int, Path], Trainer]  # of the node's number and its folder


def virtual_now() -> float:
    """The wall clock of a simulation."""
    return EPOCH_S + trio.current_time()


def in_process_trainer(samples_per_s: float, together: "BatchedTraining | None" = None) -> MakeTrainer:
    """Trainers that work in this process, each at `samples_per_s` of virtual time: one after another, or `together`."""
    return lambda number, folder: InProcessTrainer(folder, samples_per_s, together)


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """A simulated node's identity, and the source of randomness that it goes on with in its first life."""

    key: Ed25519PrivateKey
    member_key: Ed25519PrivateKey
    seal_key: X25519PrivateKey
    random: Random

    @property
    def node_id(self) -> NodeId:
        return node_id_of(public_key_of(self.key))


def keys_of(number: int, seed: int) -> NodeKeys:
    """The keys of node `number` in the simulation of `seed`."""
    random = Random(f"node {number} of {seed}")
    return NodeKeys(
        Ed25519PrivateKey.from_private_bytes(random.randbytes(32)),
        Ed25519PrivateKey.from_private_bytes(random.randbytes(32)),
        X25519PrivateKey.from_private_bytes(random.randbytes(32)),
        random,
    )


class SimulatedNode:
    """Node `number` of the simulation `seed`.

    Args:
        folder: for its task's state; the caller's to make and to remove.
        make_trainer: makes the trainer of each life.
        on_append: told (journal, record) of every journal record once it is durable.
        on_life: given the node of each life once it has read its disk, before it begins to work.
    """

    def __init__(
        self,
        number: int,
        seed: int,
        world: SimulatedWorld,
        store: SharedStore,
        folder: Path,
        make_trainer: MakeTrainer,
        *,
        pool: ChunkPool | None = None,
        on_append: Callable[[str, bytes], None] | None = None,
        on_life: Callable[[Node], None] = lambda node: None,
    ) -> None:
        self.number = number
        self.name = f"node-{number}"
        self.keys = keys_of(number, seed)
        self.node_id = self.keys.node_id
        self.disk = FaultyDisk(Random(f"disk {number} of {seed}"), pool or ChunkPool(), on_append)
        self.folder = folder
        self.lives = 0
        self.is_wanted = False  # up, or about to be
        self.is_retired = False  # it has gone for good
        self.clock_late_s = 0.0  # how much its wall clock is late
        self.node: Node | None = None  # while it is up
        self._seed = seed
        self._world = world
        self._store = store
        self._make_trainer = make_trainer
        self._on_life = on_life
        self._network: SimulatedNetwork | None = None
        self._record: SimulatedRecord | None = None
        self._life = trio.CancelScope()
        self._gone = trio.Event()
        self._gone.set()

    @property
    def is_up(self) -> bool:
        return self.node is not None

    async def live(self, *, task_status: "TaskStatus[Node]" = trio.TASK_STATUS_IGNORED) -> None:
        """Be up until killed or cancelled; started with the node. Waits for an earlier life to be over."""
        self.is_wanted = True
        await self._gone.wait()
        if self.is_retired:
            return
        self._gone, self._life = trio.Event(), trio.CancelScope()
        self.disk.is_gone = False
        try:
            with self._life:
                await self._start_until_it_runs(task_status)
        finally:
            self.node = None
            self._gone.set()

    async def _start_until_it_runs(self, task_status: "TaskStatus[Node]") -> None:
        """Its owner starts it again where it could not start, or ended, because its disk said no."""
        while True:
            try:
                await self._one_life(task_status)
            except* FednodeError as errors:
                log.info("%s ended by itself: %s", self.name, errors.exceptions)
            if self.node is not None:
                self.node, task_status = None, trio.TASK_STATUS_IGNORED  # who waited for its start has been told
            await trio.sleep(START_AGAIN_S)

    async def _one_life(self, task_status: "TaskStatus[Node]") -> None:
        network = self._network = self._world.network(self.node_id)
        self._record = SimulatedRecord(self.node_id, self._store)
        node = self._make_node(network)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            async with node:
                self._on_life(node)
                await nursery.start(node.run)
                self.node = node
                task_status.started(node)
                await trio.sleep_forever()

    def _make_node(self, network: SimulatedNetwork) -> Node:
        assert self._record is not None
        self.lives += 1
        random = self.keys.random if self.lives == 1 else Random(f"life {self.lives} of {self.name} of {self._seed}")
        return Node(
            key=self.keys.key,
            member_key=self.keys.member_key,
            seal_key=self.keys.seal_key,
            name=self.name,
            network=network,
            disk=self.disk,
            trainer=self._make_trainer(self.number, self.folder),
            record=self._record,
            random=random,
            version="simulated",
            capacity=lambda: Capacity(
                cpu_cores=2, memory_bytes=8 * _GIBIBYTE, memory_free_bytes=4 * _GIBIBYTE, disk_free_bytes=64 * _GIBIBYTE
            ),
            home=str(self.folder),
            now=lambda: virtual_now() - self.clock_late_s,
        )

    def run_records(self, run: RunId) -> list[Any]:
        """What lies in its journal of a run now, as plain values."""
        return [msgpack.unpackb(raw, use_list=False) for raw in self.disk.durable_records(journal_name(run))]

    def kill(self) -> None:
        """End it at once, as a power cut does. Nothing happens where it is down already."""
        if self._gone.is_set() or self.disk.is_gone:
            return
        self.node, self.is_wanted = None, False
        self.disk.crash()
        self.disk.is_gone = True
        if self._record is not None:
            self._record.crash()
        if self._network is not None:
            self._world.observe("crashed", self.node_id, self.node_id)
            self._network.stop()
        self._life.cancel()


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
    await SimulatedNode(number, seed, world, store, folder, in_process_trainer(samples_per_s)).live(
        task_status=task_status
    )
