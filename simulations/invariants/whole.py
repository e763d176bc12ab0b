"""Invariants that no single message shows: that a run goes on, that all hold the same in the end, that nothing grows
without bound, and that no stranger is listened to. Looked at every half second of virtual time, and at the end.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from node.run.driver import INBOX_EVENTS_MAX
from protocol.keys import RunId
from protocol.limits import OUTBOX_FRAMES_MAX
from protocol.manifest.manifest import Manifest
from simulations.invariants.run import Invariants
from simulations.nodes.simulated_node import SimulatedNode

if TYPE_CHECKING:
    from simulations.faults.injector import Injector

Wrong = tuple[str, str]  # (rule, what)

ELECTIONS = 3  # timeouts, and one round, until the next commit once faults have stopped
OUR_ERROR = "an error in fednode itself"  # as node.run.runs says it
# Of a node, besides a few for each peer: its services, one run, timers. Measured at some 30.
TASKS_PER_NODE = 100
TASKS_PER_PAIR = 12
BLOBS_BESIDES = 32  # a schema, offers under way, what a lost round left
BLOBS_PER_ROUND = 3  # model, difference, an update


class Progress:
    """Once faults stop, the next commit comes within three election timeouts and one round."""

    def __init__(self, twin: Invariants, began: float, manifest: Manifest) -> None:
        self._twin = twin
        self._began = began
        self.limit_s = ELECTIONS * manifest.timing.election_timeout_s + manifest.round.deadline_s

    def look(self, injector: "Injector", up: set[str]) -> None:
        """`up`: the nodes that run. While most voters do not, nothing can be committed, and nothing need be."""
        voters = self._twin.voters
        most_are_down = bool(voters) and 2 * len(up.intersection(voters)) <= len(voters)
        if self._twin.outcome or most_are_down or not injector.is_quiet:
            self._began = trio.current_time()
            return
        last = max((at for at, _ in self._twin.commit_times), default=0.0)
        since = max(self._began, injector.quiet_since, last)
        if trio.current_time() - since > self.limit_s:
            after = f"after round {self._twin.committed_round}"
            self._twin.report("progress", f"nothing was committed for {self.limit_s:.0f} s without faults, {after}")


class Bounds:
    """Queues, tasks and disks stay below what their limits allow."""

    def __init__(self, rounds: int, nodes: int) -> None:
        self._blobs_max = BLOBS_PER_ROUND * (rounds + 1) + 2 * nodes + BLOBS_BESIDES
        self._tasks_max = TASKS_PER_NODE * nodes + TASKS_PER_PAIR * nodes * nodes

    def look(self, node: SimulatedNode) -> Wrong | None:
        if node.disk.blob_count() > self._blobs_max:
            return "bounds", f"{node.disk.blob_count()} blobs lie on its disk; {self._blobs_max} are enough"
        if node.node is None:
            return None
        for link in node.node.links.status():
            if link.waiting > OUTBOX_FRAMES_MAX:
                return "bounds", f"{link.waiting} messages wait for {link.peer}"
        for known in node.node.runs.active():
            waiting = known.driver._inbox.statistics().current_buffer_used if known.driver is not None else 0
            if waiting >= INBOX_EVENTS_MAX:
                return "bounds", f"{waiting} events wait for its run's machine"
        return None

    def look_at_all(self) -> Wrong | None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        return ("bounds", f"{tasks} tasks are alive; {self._tasks_max} are enough") if tasks > self._tasks_max else None


def broken(node: SimulatedNode) -> Wrong | None:
    """Whether a run ended on this node by an error of our own code. A disk that says no is none."""
    for known in node.node.runs.known.values() if node.node is not None else ():
        state, reason = known.chronicle._states.get(node.node_id, ("", ""))
        if state == "FAILED" and OUR_ERROR in reason:
            return "no node breaks", reason
    return None


def outsiders(node: SimulatedNode) -> Wrong | None:
    """Whether bytes of somebody who is in none of its groups reached a handler."""
    taken = node.node.network.counters.stranger_bytes if node.node is not None else 0
    return ("no bytes from outsiders", f"it took {taken} bytes from strangers") if taken else None


# --- the end ---------------------------------------------------------------------------------------------------------
def diverged(nodes: Iterable[SimulatedNode], run: RunId, twin: Invariants) -> str | None:
    """How the nodes that are up differ: in their groups' logs, their newest commit, or whether they hold its model."""
    logs: dict[frozenset[str], str] = {}
    last = twin.committed.get(twin.committed_round, "")
    for node in nodes:
        if node.node is None or not node.node.groups.places:
            continue
        log = frozenset(op.hash for place in node.node.groups.places.values() for op in place.log)
        logs.setdefault(log, node.name)
        if len(logs) > 1:
            return f"{' and '.join(logs.values())} have different group logs"
        mine = twin.durable.get(node.node_id)
        if mine is None or not mine.committed:
            continue  # it took no part
        if mine.committed_round != twin.committed_round and node.node_id in twin.roster_of(last):
            return f"{node.name} holds round {mine.committed_round}; {twin.committed_round} is committed"
        if last in mine.committed and not node.disk.holds(twin.checkpoints[last].model):
            return f"the model of the last round is not on the disk of {node.name}"
    return None
