"""A crash at every point: after each durable write and before each message, one run each. docs/protocol.md §7.3, §8.4,
§8.8.

A run without faults is played once and its outputs are counted. Then it is played again for each of them, and the node
dies right there; what it had not yet done is lost, and it comes back with its journal and its blobs alone.
"""

from collections.abc import Iterator

import pytest
from run_world import SimNode, World

from protocol.run.events import Persist, RunOutput, Send

NODES, ROUNDS = 4, 3
DOWN_S = 3.0
PARTS = 8


class CrashingWorld(World):
    """Counts writes and messages, and lets a node die at one of them: before a message, after a write."""

    def __init__(self, point: int | None) -> None:
        self.points = 0
        self.point = point
        self.crashed: SimNode | None = None
        super().__init__(5, NODES, rounds=ROUNDS)

    def carry_out(self, node: SimNode, output: RunOutput) -> None:
        if node is self.crashed and node.machine is None:
            return  # the rest of the step that the crash cut off
        if isinstance(output, Persist | Send):
            self.points += 1
        is_here = isinstance(output, Persist | Send) and self.points == self.point
        if is_here and isinstance(output, Send):
            self._die(node)
            return
        super().carry_out(node, output)
        if is_here:
            self._die(node)

    def _die(self, node: SimNode) -> None:
        self.crashed = node
        self.crash(node, DOWN_S)


def points() -> Iterator[int]:
    world = CrashingWorld(None)
    world.run(100.0)
    world.check_ended("finished")
    yield from range(1, world.points + 1)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_run_goes_on_whenever_a_node_dies(part: int) -> None:
    tried = 0
    for point in list(points())[part::PARTS]:
        world = CrashingWorld(point)
        world.run(200.0)
        assert world.crashed is not None, f"point {point} was not reached"
        world.check_ended("finished")
        assert sorted(world.committed) == list(range(ROUNDS + 1)), f"point {point}"
        tried += 1
    assert tried > 20
