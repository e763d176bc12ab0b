"""Who votes, and who trains: pure functions of the start and the committed checkpoint, the same on every node.

Rendezvous hashing (Thaler and Ravishankar, 1998) gives every node a lot for every purpose that nobody can choose.
docs/protocol.md §6.
"""

from collections.abc import Iterable, Sequence
from math import ceil

from protocol.checkpoint import Ready
from protocol.keys import NodeId, RunId
from protocol.limits import CAPACITY_CLASSES, VOTERS_MAX
from protocol.wire import hash_of


def capacity_class(cpu_cores: int, memory_bytes: int) -> int:
    """How apt a node is to aggregate, from 0 to 7: doublings of the scarcer of cores and memory (in units of 2 GiB).

    Coarse and capped on purpose: a boaster gains little.
    """
    units = min(cpu_cores, memory_bytes // (2 * 1024**3))
    return min(CAPACITY_CLASSES - 1, max(0, units).bit_length())


def lot(*parts: str | int) -> str:
    """A number that nobody can choose, as hex, for sorting."""
    return hash_of("\n".join(str(part) for part in parts).encode())


def voters_of(run: RunId, ready: Iterable[Ready]) -> tuple[NodeId, ...]:
    """The voters by rank: the highest capacity class first, then by lot. Observers do not vote (§6.1)."""
    able = [note for note in ready if note.role != "observer"]
    able.sort(key=lambda note: (-note.capacity_class, lot(run, note.node)))
    return tuple(NodeId(note.node) for note in able[:VOTERS_MAX])


def trainers_of(run: RunId, round_number: int, trainers: Sequence[str], fraction: float) -> frozenset[NodeId]:
    """Who trains in a round: the given fraction of the roster's trainers, rounded up, by lot (§6.3)."""
    count = max(1, ceil(fraction * len(trainers)))
    chosen = sorted(trainers, key=lambda node: lot(run, round_number, node))[:count]
    return frozenset(NodeId(node) for node in chosen)
