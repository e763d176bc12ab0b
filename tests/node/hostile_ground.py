"""A simulated group of real nodes for hostile tests: nodes that can be restarted, disks that can be full."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from node.data.shares import digits_split
from node.membership.group_place import GroupPlace
from node.node import Node
from node.run.known_run import KnownRun
from protocol.errors import FednodeError
from protocol.group.presence import Capacity
from protocol.keys import RunId, node_id_of, public_key_of
from simulations.nodes.simulated_node import virtual_now
from simulations.training.trainer import InProcessTrainer
from simulations.world.deterministic import run_deterministically
from simulations.world.disk import SimulatedDisk
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore, SimulatedRecord

DEADLINE_S = 3600.0  # of virtual time: what hangs ends with a word

CONFIGURATION = """
name = "{name}"
seed = 1
audit = "{audit}"
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = {rounds}
[aggregation]
codec = "fp32"
[roster]
nodes_min = {nodes}
join_deadline_s = {join_deadline_s}
"""


class FailingDisk(SimulatedDisk):
    """A disk that says no to every write while `is_full`."""

    is_full = False

    async def append(self, journal: str, record: bytes) -> None:
        self._check()
        await super().append(journal, record)

    async def write(self, name: str, data: bytes) -> None:
        self._check()
        await super().write(name, data)

    def _check(self) -> None:
        if self.is_full:
            raise FednodeError("The disk could not write: No space left on device", remedy="make room")


@dataclass
class Life:
    """One node's home and, while it lives, the node. `ended` is set when it has ended, by itself too."""

    number: int
    folder: Path
    disk: FailingDisk = field(default_factory=FailingDisk)
    node: Node = None  # type: ignore[assignment]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    error: BaseException | None = None

    @property
    def key(self) -> Ed25519PrivateKey:
        return self.node.identity.keys.node

    @property
    def place(self) -> GroupPlace:
        return next(iter(self.node.groups.places.values()))


class HostileGround:
    """The world, and the nodes in it."""

    def __init__(self, world: SimulatedWorld, shared: SharedStore, folder: Path, nursery: trio.Nursery) -> None:
        self.world = world
        self.lives: list[Life] = []
        self._shared = shared
        self._folder = folder
        self._nursery = nursery
        self._starts = 0

    # --- life ----------------------------------------------------------------------------------------------------
    async def born(self) -> Life:
        number = len(self.lives)
        folder = self._folder / f"node-{number}"
        folder.mkdir()
        life = Life(number, folder)
        self.lives.append(life)
        await self._nursery.start(self._live, life)
        return life

    async def restart(self, life: Life) -> None:
        """End the node, if it lives, and start it on the same home. Raises what keeps it from starting."""
        life.scope.cancel()
        await life.ended.wait()
        life.scope, life.ended, life.error = trio.CancelScope(), trio.Event(), None
        await self._nursery.start(self._live, life)

    async def _live(self, life: Life, task_status: trio.TaskStatus[None]) -> None:
        random = Random(f"node {life.number}")
        self._starts += 1
        keys = [random.randbytes(32) for _ in range(3)]
        key = Ed25519PrivateKey.from_private_bytes(keys[0])
        network = self.world.network(node_id_of(public_key_of(key)))
        life.node = Node(
            key=key,
            member_key=Ed25519PrivateKey.from_private_bytes(keys[1]),
            seal_key=X25519PrivateKey.from_private_bytes(keys[2]),
            name=f"node-{life.number}",
            network=network,
            disk=life.disk,
            trainer=InProcessTrainer(life.folder),
            record=SimulatedRecord(network.node_id, self._shared),
            random=Random(f"node {life.number}, start {self._starts}"),
            version="simulated",
            capacity=lambda: Capacity(cpu_cores=2, memory_bytes=2**33, memory_free_bytes=2**32, disk_free_bytes=2**36),
            now=virtual_now,
        )
        started = False
        try:
            with life.scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(network.run)
                    async with life.node:
                        await nursery.start(life.node.run)
                        started = True
                        task_status.started()
                        await trio.sleep_forever()
        except Exception as error:
            if not started:
                raise
            life.error = error  # for the test to look at
        finally:
            life.ended.set()

    # --- a group -------------------------------------------------------------------------------------------------
    async def group(self, count: int) -> list[Life]:
        """`count` nodes of as many members in one group, all with data, all accepting every run."""
        lives = [await self.born() for _ in range(count)]
        for life, path in zip(lives, digits_split(count).write(self._folder / "data"), strict=True):
            await life.node.service.data_add("digits", str(path), {})
            await life.node.service.set_policy(["all"])
        await lives[0].node.service.create_group("hostile")
        if count > 1:
            invitation = await lives[0].node.service.invite(None, "member", count - 1, 86_400)
            for life in lives[1:]:
                await life.node.service.join(invitation["token"])
                await trio.sleep(3)  # virtual time passes
        return lives

    async def propose(
        self,
        life: Life,
        *,
        rounds: int = 2,
        nodes: int,
        name: str = "run",
        join_deadline_s: float = 600.0,
        audit: str = "none",
    ) -> RunId:
        text = CONFIGURATION.format(rounds=rounds, nodes=nodes, name=name, join_deadline_s=join_deadline_s, audit=audit)
        return RunId((await life.node.service.start_run(text, None, None, {}))["run_id"])

    async def settled(self, condition: Callable[[], object], what: str, within_s: float = DEADLINE_S) -> None:
        """Wait until `condition` holds. Virtual time costs nothing."""
        deadline = trio.current_time() + within_s
        while not condition():
            assert trio.current_time() < deadline, f"{what}: not within {within_s:.0f} s"
            await trio.sleep(0.1)  # virtual time passes

    async def ended(self, run: RunId, lives: list[Life]) -> list[KnownRun]:
        """The run as each node knows it, once it has ended on all."""

        def is_over(life: Life) -> bool:
            known = life.node.runs.known.get(run)
            return known is not None and known.driver is not None and known.driver.ended.is_set()

        await self.settled(lambda: all(map(is_over, lives)), "the run's end")
        return [life.node.runs.known[run] for life in lives]


def on_hostile_ground(folder: Path, test: Callable[[HostileGround], Awaitable[None]]) -> None:
    """Run `test` in virtual time."""
    shared = SharedStore(folder / "store.duckdb")

    async def main() -> None:
        world = SimulatedWorld(Random(1))
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            with trio.fail_after(24 * DEADLINE_S):
                await test(HostileGround(world, shared, folder, nursery))
            nursery.cancel_scope.cancel()

    try:
        run_deterministically(1, main)
    finally:
        shared.close()


def alive(*lives: Life) -> None:
    """Raises AssertionError with the error that ended a node."""
    for life in lives:
        assert not life.ended.is_set(), f"node-{life.number} ended: {life.error!r}"
