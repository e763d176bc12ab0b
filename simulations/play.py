"""One simulation from its beginning to its end: the cast gathers, trains under faults, and is looked at all the while.

The same scenario, size, faults and seed give the same events to the bit, in any process.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from node.node import Node
from protocol.keys import NodeId, RunId
from protocol.limits import ANTI_ENTROPY_S, OPERATION_BYTES_MAX
from protocol.manifest.manifest import Manifest
from protocol.run.checkpoint import RunStart, checkpoint_name, open_ready, starting_checkpoint
from protocol.run.voters import voters_of
from protocol.wire import unpack
from simulations.cast import Cast, wire_profile
from simulations.faults.injector import Injector
from simulations.invariants.group import GroupTwin
from simulations.invariants.phases import Phases
from simulations.invariants.run import Facts, Invariants, Violation
from simulations.invariants.whole import Bounds, Progress, broken, diverged, outsiders
from simulations.nodes.simulated_node import SimulatedNode
from simulations.plan.faults import Fault, plan_faults
from simulations.plan.read import Read
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore
from simulations.world.trace import Trace
from simulations.world.watch import Happening, Watch, WatchedWorld, readable

if TYPE_CHECKING:
    from simulations.training.batched import BatchedTraining

# How often it is looked at what no single event shows, such as that nothing happens: in heartbeats of the run.
LOOKS_PER_HEARTBEAT = 2
# After the run's end, until everybody who was away knows of it: links redial within half a minute, and ask then.
CATCH_UP_S = 300.0
# Until the group's logs are alike, after everything was mended: several comparisons with several peers.
SETTLE_S = 6 * ANTI_ENTROPY_S


@dataclass(frozen=True, slots=True)
class Told:
    """How far a simulation is. `virtual_s`: seconds of its own clock."""

    phase: str
    round: int
    rounds: int
    virtual_s: float


@dataclass(slots=True)
class Played:
    """What came of a simulation. Times are virtual seconds; `commits` are (time, round), from the run's start."""

    run_id: str = ""
    outcome: str = ""
    rounds_committed: int = 0
    accuracy: float | None = None
    aggregator: str = ""
    elections: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    cpu_s: float = 0.0
    events: int = 0
    trace: str = ""
    faults: list[Fault] = field(default_factory=list)
    fault_refusals: list[str] = field(default_factory=list)  # why a removal did not happen; "" for what did
    fault_begins: list[float] = field(default_factory=list)
    fault_ends: list[float] = field(default_factory=list)
    commits: list[tuple[float, int]] = field(default_factory=list)
    refused: dict[int, set[str]] = field(default_factory=dict)  # codes, by the node's number
    lied: set[int] = field(default_factory=set)  # as aggregators, before others
    deposed: set[int] = field(default_factory=set)
    out: set[int] = field(default_factory=set)  # of the group, in the end
    members: int = 0
    violation: Violation | None = None
    last: list[str] = field(default_factory=list)  # what happened before the violation, for people


def told_faults(played: Played) -> list[str]:
    """The faults in words, and of those that the group refused, why."""
    refusals = [*played.fault_refusals, *[""] * len(played.faults)]
    return [
        f"{fault}: refused, {why}" if why else str(fault) for fault, why in zip(played.faults, refusals, strict=False)
    ]


OnProgress = Callable[[Told], None]


def play(
    read: Read,
    nodes: int,
    seed: int,
    store: Path | None = None,
    *,
    faults: Sequence[Fault] | None = None,
    watching: bool = True,
    exact: bool = True,
    on_progress: OnProgress = lambda told: None,
) -> Played:
    """Play a scenario.

    Args:
        store: where all nodes record; None for memory.
        faults: in place of those that the scenario and the seed give.
        watching: whether invariants are checked; without, faults at phases and of the aggregator cannot happen.
        exact: train one node after another, as each does alone; else together where the task allows it.
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="fednode-simulation-") as folder:
        shared = SharedStore(store)
        planned = plan_faults(read.scenario, nodes, read.rounds, seed) if faults is None else list(faults)
        one = Play(read, nodes, seed, shared, Path(folder), planned, watching, exact, on_progress)
        try:
            run_deterministically(seed, one.run)
        finally:
            shared.close()
    played = one.played
    played.real_s = round(time.perf_counter() - began, 3)
    played.cpu_s = round(time.process_time() - began_cpu, 3)
    played.events, played.trace = one.trace.events, one.trace.hexdigest()
    return played


class Play:
    """The state of one simulation while it goes on. Made and run by `play`."""

    def __init__(
        self,
        read: Read,
        nodes: int,
        seed: int,
        shared: SharedStore,
        folder: Path,
        faults: Sequence[Fault],
        watching: bool,
        exact: bool,
        on_progress: OnProgress,
    ) -> None:
        self.trace = Trace()
        self.played = Played()
        self._read = read
        self._seed = seed
        self._on_progress = on_progress
        self._watch = Watch()
        random, profile = Random(f"network of {seed}"), wire_profile(read.scenario.network)
        self._world = WatchedWorld(random, profile, self._watch) if watching else SimulatedWorld(random, profile)
        self._world.on_event(self.trace.network)
        watch = self._watch if watching else None
        self._cast = Cast(read.scenario, nodes, seed, self._world, shared, folder, watch, _together(exact))
        self._number_of = {node.node_id: node.number for node in self._cast.nodes}
        liars = frozenset(self._cast.nodes[number].node_id for number in self._cast.liars)
        self._twin = Invariants(self._starting, self._holds, liars)
        self._group = GroupTwin(self._cast.nodes, self._cast.rogues, self._twin)
        self._phases = Phases(self._twin, self._on_phase)
        self._injector: Injector | None = None
        if isinstance(self._world, WatchedWorld):
            self._watch.listen(self._twin.on_happening)
            self._watch.listen(self._phases.on_happening)
            self._watch.listen(self._on_happening)
            self._injector = Injector(faults, self._cast.nodes, self._world, self._watch, self._aggregator, seed)
        self._rounds = read.rounds
        self._run = RunId("")
        self._manifest: Manifest | None = None

    # --- the course of it ----------------------------------------------------------------------------------------
    async def run(self) -> None:
        with trio.move_on_after(self._read.scenario.virtual_max_s) as deadline:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._world.run)
                self._cast.lay_wires()
                self._tell("the group gathers")
                await self._cast.gather(nursery)
                await self._start_run()
                if self._injector is not None:
                    await nursery.start(self._injector.run)
                await self._cast.come_and_go(nursery)
                await self._until_the_end()
                await self._take_down()
                nursery.cancel_scope.cancel()
        if deadline.cancelled_caught:
            self._twin.report("progress", f"it is not over after {self._read.scenario.virtual_max_s:.0f} virtual s")
        self.played.violation = self._twin.violation

    async def _start_run(self) -> None:
        founder = self._up()[0]
        members = len(self._cast.nodes) - len(self._cast.late)
        overrides: dict[str, Any] = {"seed": self._seed, "roster.nodes_min": members, **self._read.run_overrides}
        began = await founder.service.start_run(self._read.run_text, None, None, overrides)
        self._run = RunId(began["run_id"])
        self._manifest = founder.runs.known[self._run].manifest
        await until(lambda: self._known(founder).entry.start is not None or self._known(founder).is_over)

    async def _until_the_end(self) -> None:
        """Look at everything until the run is over, or something is wrong."""
        began = trio.current_time()
        progress = Progress(self._twin, began, self._settings())
        look_every_s = self._settings().timing.heartbeat_s / LOOKS_PER_HEARTBEAT
        bounds = Bounds(self._rounds, len(self._cast.nodes))
        while self._twin.violation is None and not self._is_over():
            await trio.sleep(look_every_s)
            self._tell("training")
            if self._injector is not None:
                self._group.look()
                progress.look(self._injector, {node.node_id for node in self._alive() if not self._group.is_out(node)})
                self._look_at_nodes(bounds)
        if self._injector is not None:
            self.played.fault_begins = [at - began for at in self._injector.begins]
            self.played.fault_ends = [at - began for at in self._injector.ends]
            self._injector.stop()
            self.played.faults = self._injector.injected
            self.played.fault_refusals = self._injector.refusals()
        self.played.commits = [(at - began, number) for at, number in self._twin.commit_times]
        if self._twin.violation is None:
            await self._let_all_come_home()

    def _look_at_nodes(self, bounds: Bounds) -> None:
        for node in self._cast.nodes:
            wrong = bounds.look(node) or outsiders(node) or broken(node)
            if wrong is not None:
                self._twin.report(*wrong, node.node_id)
        wrong = bounds.look_at_all()
        if wrong is not None:
            self._twin.report(*wrong)

    async def _let_all_come_home(self) -> None:
        """Nothing fails any more: everybody must learn of the end, and hold the same."""
        with trio.move_on_after(CATCH_UP_S) as patience:
            await until(self._have_all_ended)
        if patience.cancelled_caught:
            away = ", ".join(n.name for n in self._cast.nodes if n.is_up and not self._has_ended(n))
            self._twin.report("convergence", f"the run's end is not known {CATCH_UP_S:.0f} s after it at: {away}")
            return
        if self._injector is None:
            return
        with trio.move_on_after(SETTLE_S):
            await until(lambda: self._differing() is None and self._group.wrong() is None)
        if wrong := self._differing():
            self._twin.report("convergence", wrong)
        if wrong := self._group.wrong():
            self._twin.report("one group", wrong)

    def _differing(self) -> str | None:
        return diverged(self._group.inside(), self._run, self._twin)

    def _is_over(self) -> bool:
        return bool(self._twin.outcome) or (self._injector is None and self._have_all_ended()) or self._is_given_up()

    def _is_given_up(self) -> bool:
        """The run failed before it started: it then has no checkpoint that would say so."""
        known = [node.runs.known.get(self._run) for node in self._up()]
        return all(run is not None and run.driver is None and run.is_over for run in known) and bool(known)

    def _have_all_ended(self) -> bool:
        return all(self._has_ended(node) for node in self._cast.nodes)

    def _has_ended(self, node: SimulatedNode) -> bool:
        """Whether a node knows of the run's end; whoever is gone for good need not."""
        if node.node is None:
            return not node.is_wanted
        known = node.node.runs.known.get(self._run)
        if self._group.is_out(node) or node.number in self._cast.rogues:
            return True
        if known is None:
            return not node.node.groups.places  # it has not joined
        return known.driver.ended.is_set() if known.driver is not None else known.is_over

    # --- the end -------------------------------------------------------------------------------------------------
    async def _take_down(self) -> None:
        """What came of it, off a node that is up and out of what was seen."""
        for node in self._up():
            await node.record.flush()
            committed = self._known(node).driver.machine.ledger.committed if self._drives(node) else None
            self.trace.add("committed", node.identity.node_id, committed.name if committed else "nothing")
        played = self.played
        played.run_id = self._run
        played.virtual_s = round(trio.current_time(), 3)
        one = next((node.node for node in self._group.inside() if node.node is not None), self._up()[0])
        seen = await one.service.run(self._run)
        played.outcome, played.rounds_committed = seen["state"], seen["round"]
        played.accuracy, played.aggregator, played.elections = (
            seen["accuracy"],
            seen["aggregator_name"],
            seen["elections"],
        )
        if self._injector is not None:
            played.elections = len(self._twin.reigns)
            played.deposed = {self._number_of[node] for node in self._twin.deposed}
            played.lied = {self._number_of[node] for node in self._twin.lied}
            played.rounds_committed = max(0, self._twin.committed_round)
        played.out, played.members = self._group.out(), self._group.members()
        for row in await one.service.rounds(self._run):
            self._take_refusals(row)
        if self._twin.violation is not None:
            played.last = self._last_words(self._twin.violation)

    def _take_refusals(self, row: dict[str, Any]) -> None:
        refused = row["updates_refused"]
        for entry in refused:
            number = self._number_of.get(entry["node_id"], -1)
            self.played.refused.setdefault(number, set()).add(entry["reason"].partition(":")[0])

    def _last_words(self, violation: Violation) -> list[str]:
        """The last of what happened before a violation, node by node."""
        names = {node.node_id: node.name for node in self._cast.nodes}
        lines: list[str] = []
        before = [happening for happening in self._watch.last if happening.time <= violation.time]
        for node in self._cast.nodes:
            mine = [happening for happening in before if happening.node == node.node_id][-LAST_LINES:]
            lines += [f"{node.name}{'  <- here' if node.node_id == violation.node else ''}"]
            lines += [f"  {readable(happening, names)}" for happening in mine]
        return lines

    # --- what others ask for -------------------------------------------------------------------------------------
    def _on_phase(self, phase: str, number: int, node: NodeId) -> None:
        if self._injector is not None:
            self._injector.on_phase(phase, number, node)

    def _on_happening(self, happening: Happening) -> None:
        if happening.kind == "starts":
            node = self._cast.nodes[self._number_of[happening.node]]
            self._twin.on_restart(happening.node, node.run_records(self._run))
        if happening.kind == "fault":
            self.trace.add("fault", happening.node, happening.what["text"])

    def _aggregator(self) -> NodeId | None:
        return self._phases.aggregator

    def _starting(self) -> tuple[str, Facts]:
        """Checkpoint 0, from the signed start in the log of any node that has it."""
        for node in self._up():
            entry = self._known(node).entry if self._run in node.runs.known else None
            if entry is not None and entry.start is not None:
                start = unpack(RunStart, entry.start, OPERATION_BYTES_MAX)
                voters = voters_of(self._run, (open_ready(raw).body for raw in start.roster))
                zero = starting_checkpoint(start, entry.proposer, voters, self._rounds)
                return checkpoint_name(zero), Facts(0, "", zero.voters, start.model, "", zero.roster)
        raise AssertionError("a checkpoint is spoken of and no node has the start")

    def _holds(self, node: NodeId, blob: str) -> bool:
        return self._cast.nodes[self._number_of[node]].disk.holds(blob)

    # --- pieces --------------------------------------------------------------------------------------------------
    def _up(self) -> list[Node]:
        return [node.node for node in self._cast.nodes if node.node is not None]

    def _alive(self) -> list[SimulatedNode]:
        return [node for node in self._cast.nodes if node.is_up]

    def _known(self, node: Node) -> Any:
        return node.runs.known[self._run]

    def _drives(self, node: Node) -> bool:
        return self._run in node.runs.known and self._known(node).driver is not None

    def _settings(self) -> Manifest:
        assert self._manifest is not None
        return self._manifest

    def _tell(self, phase: str) -> None:
        number = self._twin.committed_round if self._injector is not None else self._round_of_first()
        self._on_progress(Told(phase, max(0, number), self._rounds, trio.current_time()))

    def _round_of_first(self) -> int:
        up = self._up()
        return self._known(up[0]).driver.machine.ledger.committed_round if up and self._drives(up[0]) else 0


def _together(exact: bool) -> "BatchedTraining | None":
    if exact:
        return None
    from simulations.training.batched import BatchedTraining

    return BatchedTraining()


LAST_LINES = 14  # of each node, in the report on a violation: one exchange, and what led to it
