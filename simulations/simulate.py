"""A whole group in one process: nodes of the real code form a group and run the digits task, in virtual time."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio

from node.node import Node
from node.shares import digits_split
from protocol.limits import ENTRANCE_ATTEMPTS_PER_MINUTE
from simulations.deterministic import run_deterministically
from simulations.network import SimulatedWorld
from simulations.record import SharedStore
from simulations.simulated_node import live
from simulations.trace import Trace

# Far beyond what any honest run takes; a simulation that hangs ends with a word instead of going on for ever.
VIRTUAL_DEADLINE_S = 7 * 86_400.0

# An entrance takes so many attempts a minute; waiting costs nothing in virtual time.
JOIN_PAUSE_S = 60.0 / ENTRANCE_ATTEMPTS_PER_MINUTE

CONFIGURATION = """
name = "simulation"
project = "simulations"
seed = {seed}
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = {rounds}
epochs = 2
batch_size = 32
learning_rate = 0.1
momentum = 0.9
[roster]
nodes_min = {nodes}
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a simulation is. `virtual_s`: seconds of its own clock."""

    phase: str
    round: int
    rounds: int
    virtual_s: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of a simulation. `trace` is the same for the same arguments and the same versions of libraries."""

    run_id: str
    outcome: str
    rounds_committed: int
    accuracy: float | None
    aggregator: str
    elections: int
    virtual_s: float
    real_s: float
    cpu_s: float
    events: int
    trace: str


def simulate(
    nodes: int,
    rounds: int,
    seed: int,
    store: Path | None,
    *,
    samples_per_s: float = 2000.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Simulated:
    """Play `nodes` nodes through a run of `rounds` rounds. What they record goes into one store at `store`."""
    began, began_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="fednode-simulation-") as folder:
        shared = SharedStore(store)
        play = _Play(nodes, rounds, seed, shared, Path(folder), samples_per_s, on_progress)
        try:
            summary = run_deterministically(seed, play.run)
        finally:
            shared.close()
    return Simulated(
        **summary,
        real_s=round(time.perf_counter() - began, 3),
        cpu_s=round(time.process_time() - began_cpu, 3),
        events=play.trace.events,
        trace=play.trace.hexdigest(),
    )


class _Play:
    def __init__(
        self,
        nodes: int,
        rounds: int,
        seed: int,
        shared: SharedStore,
        folder: Path,
        samples_per_s: float,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.trace = Trace()
        self._nodes = nodes
        self._rounds = rounds
        self._seed = seed
        self._shared = shared
        self._folder = folder
        self._samples_per_s = samples_per_s
        self._on_progress = on_progress

    async def run(self) -> dict[str, Any]:
        world = SimulatedWorld(Random(f"network of {self._seed}"))
        world.on_event(self.trace.network)
        paths = digits_split(self._nodes, seed=self._seed).write(self._folder / "data")
        with trio.fail_after(VIRTUAL_DEADLINE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(world.run)
                nodes: list[Node] = []
                for number in range(self._nodes):
                    folder = self._folder / f"node-{number}"
                    folder.mkdir()
                    be = partial(live, number, self._seed, world, self._shared, folder, self._samples_per_s)
                    nodes.append(await nursery.start(be))
                await self._gather(nodes, paths)
                summary = await self._train(nodes)
                nursery.cancel_scope.cancel()
        return summary

    async def _gather(self, nodes: list[Node], paths: list[Path]) -> None:
        """The group is created, and everybody joins with one token."""
        for node, path in zip(nodes, paths, strict=True):
            await node.service.data_add("digits", str(path), {})
            await node.service.set_policy(["all"])
        founder = nodes[0].service
        await founder.create_group("simulation")
        if len(nodes) > 1:
            invitation = await founder.invite(None, "member", len(nodes) - 1, 86_400)
            for number, node in enumerate(nodes[1:], 1):
                self._on_progress(
                    Progress(f"node {number} of {len(nodes)} joins", 0, self._rounds, trio.current_time())
                )
                await node.service.join(invitation["token"])
                await trio.sleep(JOIN_PAUSE_S)

    async def _train(self, nodes: list[Node]) -> dict[str, Any]:
        configuration = CONFIGURATION.format(seed=self._seed, rounds=self._rounds, nodes=self._nodes)
        run = await nodes[0].service.start_run(configuration, None, None, {})
        run_id = run["run_id"]
        while not all(self._has_ended(node, run_id) for node in nodes):
            await trio.sleep(0.5)
            self._on_progress(Progress("training", self._round(nodes[0], run_id), self._rounds, trio.current_time()))
        for node in nodes:
            await node.record.flush()
            driver = node.runs.known[run_id].driver
            committed = driver.machine.ledger.committed if driver else None
            self.trace.add("committed", node.identity.node_id, committed.name if committed else "nothing")
        seen = await nodes[0].service.run(run_id)
        return {
            "run_id": run_id,
            "outcome": seen["state"],
            "rounds_committed": seen["round"],
            "accuracy": seen["accuracy"],
            "aggregator": seen["aggregator_name"],
            "elections": seen["elections"],
            "virtual_s": round(trio.current_time(), 3),
        }

    def _has_ended(self, node: Node, run_id: str) -> bool:
        known = node.runs.known.get(run_id)  # type: ignore[call-overload]
        return known is not None and known.driver is not None and known.driver.ended.is_set()

    def _round(self, node: Node, run_id: str) -> int:
        known = node.runs.known.get(run_id)  # type: ignore[call-overload]
        return max(0, known.driver.machine.ledger.committed_round) if known and known.driver else 0
