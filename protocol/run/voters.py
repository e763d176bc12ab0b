"""Who votes, and who trains: pure functions of the start and the committed checkpoint, the same on every node.

Rendezvous hashing (Thaler and Ravishankar, 1998) gives every node a lot for every purpose that nobody can choose.
docs/protocol.md §6.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import ceil

from protocol.keys import NodeId, RunId
from protocol.limits import CAPACITY_CLASSES, VOTERS_MAX
from protocol.remembered import remembered
from protocol.run.checkpoint import Ready, RunStart, ready_notes
from protocol.wire import hash_of

AUDITED_BY_ONE_IN = 5  # under a spot audit: few enough not to hold up a majority, enough to catch who lies twice
_REMEMBERED = 8  # starts and rounds, of the few runs that go on at once


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


@remembered(_REMEMBERED)
def first_voters(run: RunId, start: RunStart) -> tuple[NodeId, ...]:
    """The voters at the beginning, by rank. Raises RemoteProtocolError when a ready note of the start is none."""
    return voters_of(run, ready_notes(start))


def auditors_of(run: RunId, round_number: int, voters: Sequence[str], mode: str) -> frozenset[NodeId]:
    """Who of `voters` recomputes a round's checkpoint: all, one in AUDITED_BY_ONE_IN and at least one, or nobody
    (§8.18)."""
    if mode == "none":
        return frozenset()
    count = len(voters) if mode == "full" else ceil(len(voters) / AUDITED_BY_ONE_IN)
    chosen = sorted(voters, key=lambda node: lot("audit", run, round_number, node))[:count]
    return frozenset(NodeId(node) for node in chosen)


def drawn_of(fraction: float, trainers: int) -> int:
    """How many of so many trainers train in a round."""
    return max(1, ceil(fraction * trainers))


def trainers_of(run: RunId, round_number: int, trainers: Sequence[str], fraction: float) -> frozenset[NodeId]:
    """Who trains in a round: the given fraction of the roster's trainers, rounded up, by lot (§6.3)."""
    return _trainers_of(run, round_number, tuple(trainers), fraction)


@lru_cache(maxsize=_REMEMBERED)
def _trainers_of(run: RunId, round_number: int, trainers: tuple[str, ...], fraction: float) -> frozenset[NodeId]:
    count = drawn_of(fraction, len(trainers))
    if count >= len(trainers):
        return frozenset(NodeId(node) for node in trainers)
    chosen = sorted(trainers, key=lambda node: lot(run, round_number, node))[:count]
    return frozenset(NodeId(node) for node in chosen)
