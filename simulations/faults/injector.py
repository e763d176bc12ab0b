"""Lets faults happen, and undoes them when their time is over. Faults that overlap are kept apart.

Decides what a fault is in terms of the simulated world: wires, disks, processes.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import trio

from protocol.keys import NodeId
from simulations.faults.put_out import PuttingOut
from simulations.nodes.simulated_node import SimulatedNode
from simulations.plan.faults import AGGREGATOR, Fault
from simulations.world.network_wires import Wire
from simulations.world.watch import Watch, WatchedWorld

if TYPE_CHECKING:
    from trio_typing import TaskStatus

Pair = tuple[NodeId, NodeId]


class Injector:
    """The faults of one simulation.

    Args:
        faults: what is to happen.
        nodes: by number.
        aggregator: who aggregates now, as seen from outside.
        seed: of the simulation.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        nodes: Sequence[SimulatedNode],
        world: WatchedWorld,
        watch: Watch,
        aggregator: Callable[[], NodeId | None],
        seed: int,
    ) -> None:
        self.injected: list[Fault] = []  # as they were planned
        self._struck: list[Fault] = []  # the same, with the aggregator's number in its place
        self.begins: list[float] = []  # virtual times
        self.ends: list[float] = []  # virtual times at which a fault was over and no other lasted
        self._faults = faults
        self._nodes = nodes
        self._number_of = {node.node_id: node.number for node in nodes}
        self._world = world
        self._watch = watch
        self._aggregator = aggregator
        self._putting_out = PuttingOut(nodes, world, seed)
        self._waiting: dict[tuple[str, int], list[Fault]] = {}
        for fault in faults:
            if fault.phase is not None:
                self._waiting.setdefault((fault.phase, fault.round), []).append(fault)
        self._wires: dict[Pair, list[Wire]] = {}
        self._frozen: Counter[int] = Counter()
        self._active = 0
        self._changed_at = 0.0
        self._nursery: trio.Nursery | None = None
        self._over = trio.Event()

    @property
    def is_quiet(self) -> bool:
        """Whether no fault lasts now, and none waits for a moment of its phase."""
        return self._active == 0

    @property
    def quiet_since(self) -> float:
        return self._changed_at

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Begin now: the times of faults count from here. Ends when cancelled."""
        self._changed_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for fault in self._faults:
                if fault.at_s is not None:
                    nursery.start_soon(self._strike_at, fault, trio.current_time() + fault.at_s)
            task_status.started()
            await trio.sleep_forever()

    def stop(self) -> None:
        """No new faults; those that last end now."""
        self._over.set()

    def on_phase(self, phase: str, number: int, node: NodeId) -> None:
        """A round has come so far, at `node`."""
        if self._nursery is None or self._over.is_set():
            return
        for fault in self._waiting.pop((phase, number), ()):
            named = replace(fault, nodes=self._named(fault.nodes, node), peer=self._named_one(fault.peer, node))
            self._active += 1
            if fault.kind == "kill":  # not even what it says in this instant gets out
                self._world.muted.update(self._nodes[victim].node_id for victim in named.nodes)
            self._nursery.start_soon(self._strike_after, fault, named)

    async def _strike_after(self, planned: Fault, fault: Fault) -> None:
        try:
            await trio.sleep(fault.after_s)
        finally:
            self._active -= 1
        await self._strike(planned, fault)

    async def _strike_at(self, fault: Fault, at: float) -> None:
        await trio.sleep_until(at)
        node = self._aggregator()
        if AGGREGATOR in (*fault.nodes, fault.peer) and node is None:
            return
        named = fault
        if node is not None:
            named = replace(fault, nodes=self._named(fault.nodes, node), peer=self._named_one(fault.peer, node))
        await self._strike(fault, named)

    def _named(self, numbers: Iterable[int], node: NodeId) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self._number_of[node] if n == AGGREGATOR else n for n in numbers))

    def _named_one(self, number: int | None, node: NodeId) -> int | None:
        return self._number_of[node] if number == AGGREGATOR else number

    def refusals(self) -> list[str]:
        """Of each that happened, in the same order, why the group refused it; "" of those that it did not."""
        return [self._putting_out.why_not.get(fault, "") for fault in self._struck]

    # --- one fault -----------------------------------------------------------------------------------------------
    async def _strike(self, planned: Fault, fault: Fault) -> None:
        if self._over.is_set():
            return
        self.injected.append(planned)
        self._struck.append(fault)
        self.begins.append(trio.current_time())
        self._active += 1
        self._tell(f"begins: {fault}", fault)
        try:
            await self._carry_out(fault)
        finally:
            self._active -= 1
            self._changed_at = trio.current_time()
        if not self._active:
            self.ends.append(trio.current_time())
        self._tell(f"is over: {fault}", fault)

    async def _lasting(self, seconds: float) -> None:
        """So long, for ever when 0; but no longer than faults are let happen at all."""
        with trio.move_on_after(seconds or math.inf):
            await self._over.wait()

    async def _carry_out(self, fault: Fault) -> None:
        match fault.kind:
            case "kill":
                await self._kill(fault)
            case "freeze":
                await self._freeze(fault)
            case "slow-disk" | "full-disk":
                await self._spoil_disk(fault)
            case "corrupt-blob":
                for node in self._chosen(fault):
                    node.disk.damage_newest_blob()
            case "remove" | "revoke":
                assert self._nursery is not None
                await self._putting_out.strike(fault, self._nursery, self._dies)
            case "slow-link":
                await self._slow_links(fault)
            case "flap":
                await self._flap(fault)
            case _:
                await self._break_wires(fault, self._pairs(fault))

    def _chosen(self, fault: Fault) -> list[SimulatedNode]:
        return [self._nodes[number] for number in fault.nodes if number != AGGREGATOR]

    async def _kill(self, fault: Fault) -> None:
        killed = [node for node in self._chosen(fault) if node.is_up]
        for node in killed:
            node.kill()
            self._dies(node)
        for node in self._chosen(fault):
            self._world.muted.discard(node.node_id)
        if fault.for_s:  # else they are gone, and that is over
            await self._lasting(fault.for_s)
            for node in killed:
                self._bring_back(node)

    def _dies(self, node: SimulatedNode) -> None:
        self._watch.tell("dies", node.node_id, node.node_id, {})

    def _bring_back(self, node: SimulatedNode) -> None:
        assert self._nursery is not None
        node.is_wanted = True
        self._watch.tell("starts", node.node_id, node.node_id, {})
        self._nursery.start_soon(node.live)

    async def _freeze(self, fault: Fault) -> None:
        for node in self._chosen(fault):
            self._frozen[node.number] += 1
            self._world.freeze(node.node_id)
        await self._lasting(fault.for_s)
        for node in self._chosen(fault):
            self._frozen[node.number] -= 1
            if not self._frozen[node.number]:
                self._world.heal(node.node_id)

    async def _spoil_disk(self, fault: Fault) -> None:
        is_slow = fault.kind == "slow-disk"
        for node in self._chosen(fault):
            node.disk.slow_s += fault.value if is_slow else 0.0
            node.disk.is_full = node.disk.is_full or not is_slow
        await self._lasting(fault.for_s)
        for node in self._chosen(fault):
            node.disk.slow_s -= fault.value if is_slow else 0.0
            if not is_slow:  # its owner makes room and starts it again, as it asks for
                node.disk.is_full = False
                if node.is_up:
                    node.kill()
                    self._dies(node)
                    self._bring_back(node)

    async def _slow_links(self, fault: Fault) -> None:
        pairs = self._around(fault.nodes)
        before = {pair: self._world.wires.profile(*pair) for pair in pairs}
        for pair in pairs:
            self._world.wires.set_profile(*pair, replace(before[pair], latency_s=fault.value))
        await self._lasting(fault.for_s)
        for pair, profile in before.items():
            self._world.wires.set_profile(*pair, profile)

    async def _flap(self, fault: Fault) -> None:
        end = trio.current_time() + fault.for_s
        while trio.current_time() < end and not self._over.is_set():
            await self._break_wires(replace(fault, for_s=fault.value / 2), self._around(fault.nodes))
            await self._lasting(fault.value / 2)

    # --- wires ---------------------------------------------------------------------------------------------------
    def _around(self, numbers: Iterable[int]) -> list[Pair]:
        """Both directions between these nodes and all others."""
        inside = sorted(set(numbers))
        outside = [node.number for node in self._nodes if node.number not in inside]
        pairs = [(self._nodes[a].node_id, self._nodes[b].node_id) for a, b in product(inside, outside)]
        return [*pairs, *((b, a) for a, b in pairs)]

    def _pairs(self, fault: Fault) -> list[Pair]:
        if fault.kind == "deafen":
            assert fault.peer is not None
            return [(self._nodes[fault.peer].node_id, node.node_id) for node in self._chosen(fault)]
        if fault.kind == "cut":
            assert fault.peer is not None
            peer = self._nodes[fault.peer].node_id
            return [pair for node in self._chosen(fault) for pair in ((node.node_id, peer), (peer, node.node_id))]
        if fault.kind == "partition":
            return self._around(self._side(fault))
        return self._around(fault.nodes)

    def _side(self, fault: Fault) -> list[int]:
        """A partition's smaller side, with or without the aggregator."""
        aggregator, side = self._aggregator(), list(fault.nodes)
        if aggregator is None or fault.aggregator_in == "either":
            return side
        number = self._number_of[aggregator]
        if fault.aggregator_in == "minority" and number not in side:
            side[0] = number
        elif fault.aggregator_in == "majority" and number in side:
            side[side.index(number)] = next(n.number for n in self._nodes if n.number not in side)
        return side

    async def _break_wires(self, fault: Fault, pairs: Sequence[Pair]) -> None:
        state = Wire.SILENT if fault.silent or fault.kind == "deafen" else Wire.CUT
        for source, target in pairs:
            if source == target:
                continue
            self._wires.setdefault((source, target), []).append(state)
            if state is Wire.CUT:
                self._world.cut(source, target)
            else:
                self._world.silence(source, target)
        await self._lasting(fault.for_s)
        self._mend(pairs, state)

    def _mend(self, pairs: Sequence[Pair], state: Wire) -> None:
        for pair in pairs:
            if pair in self._wires:
                self._wires[pair].remove(state)
                if not self._wires[pair]:
                    del self._wires[pair]
        for source, target in pairs:
            self._world.heal(source, target)
            for pair in ((source, target), (target, source)):
                if pair in self._wires:  # another fault still holds it
                    self._world.wires.set_state(*pair, self._wires[pair][-1])

    def _tell(self, text: str, fault: Fault) -> None:
        for node in self._chosen(fault):
            self._watch.tell("fault", node.node_id, node.node_id, {"text": text})
