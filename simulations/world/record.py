"""The Record seam for many simulated nodes: one store for all of them, written in the same thread, when it is asked.

A thousand nodes each record the whole run's metrics; each figure is kept once, by its source and sequence. Facts, such
as a round's commit, are the same on every node: the one recorded last stays.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import trio

from node.record.record import FLUSH_INTERVAL_S
from tracker.queries.reader import Reader
from tracker.store import Store
from tracker.tables.rows import LogRow, MetricRow, Row, RunRow, StatusRow

# What nodes record alike is kept of the first; where it crashes before that is safe, another's is made.
Key = tuple[str | bytes, ...]
Rows = Callable[[], Sequence[Row]]
T = TypeVar("T")
ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})
WRITE_ROWS = 20_000  # at once into the store: large enough to cost little, some 10 MB


_QUERIES_OF_A_RUN = ("run", "participants")


class SeenSequences:
    """The numbers that one source has given out, as ranges: a source counts up, so there are few."""

    def __init__(self) -> None:
        self._ranges: list[list[int]] = []  # [first, last], in order, apart

    def add(self, number: int) -> bool:
        """Whether `number` is new."""
        ranges = self._ranges
        place = len(ranges)
        while place and ranges[place - 1][0] > number:
            place -= 1
        if place and number <= ranges[place - 1][1]:
            return False
        joins_before = place > 0 and ranges[place - 1][1] == number - 1
        joins_after = place < len(ranges) and ranges[place][0] == number + 1
        if joins_before and joins_after:
            ranges[place - 1][1] = ranges.pop(place)[1]
        elif joins_before:
            ranges[place - 1][1] = number
        elif joins_after:
            ranges[place][0] = number
        else:
            ranges.insert(place, [number, number])
        return True


class SharedStore:
    """What all nodes of a simulation record.

    Args:
        path: where the store is kept; None for memory. It is opened when it is first needed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._store: Store | None = None
        self._rows: list[Row] = []
        self._speakers: dict[str, str] = {}  # by run
        self._told: dict[str, tuple[bool, float]] = {}  # whether the speaker of a run told of its end, and when
        self._seen: dict[tuple[type[Row], tuple[str, str]], SeenSequences] = {}
        self._taken: set[Key] = set()
        self._promised: set[Key] = set()
        self._runs: dict[str, set[str]] = {}  # that each node has recorded

    def hush(self, node_id: str) -> None:
        """A node was killed and may never be back: let others speak of the runs that it spoke of."""
        self._speakers = {run: speaker for run, speaker in self._speakers.items() if speaker != node_id}

    def take(self, row: Row) -> None:
        """Keep a row, unless it is an event that is here already, or one node's view of where another is: all are
        here to speak for themselves, and of the run as a whole the first that spoke goes on speaking, until another
        tells of the end first: who was put out of a run hears of that last, if at all."""
        if isinstance(row, StatusRow):
            if row.source_node != (row.node_id or self._speaker(row)):
                return
            source = (row.source_node, "")
        elif isinstance(row, MetricRow):
            source = (row.source_node, row.run_id)
        elif isinstance(row, LogRow):
            source = (row.node_id, "")
        else:
            self._rows.append(row)
            return
        seen = self._seen.setdefault((type(row), source), SeenSequences())
        if seen.add(row.sequence):
            self._rows.append(row)

    def promise(self, key: Key) -> bool:
        """Whether nobody has said yet that he will record what `key` names."""
        is_new = key not in self._promised
        self._promised.add(key)
        return is_new

    def take_once(self, key: Key, rows: Rows) -> None:
        """Keep what `key` names, unless it is here already; only then the rows are made."""
        if key not in self._taken:
            self._taken.add(key)
            for row in rows():
                self.take(row)

    def has_run(self, node_id: str, run_id: str) -> bool:
        """Whether this node has recorded the run: of what others have, a store of its own would know nothing."""
        return run_id in self._runs.get(node_id, ())

    def took_run(self, node_id: str, run_id: str) -> None:
        self._runs.setdefault(node_id, set()).add(run_id)

    def _speaker(self, row: StatusRow) -> str:
        """Whose word on a run as a whole counts, once it is known that `row` was told."""
        was_over, told_at = self._told.get(row.run_id, (False, row.time))
        if row.state in ENDED and not was_over and row.time >= told_at:
            self._speakers[row.run_id] = row.source_node
        speaker = self._speakers.setdefault(row.run_id, row.source_node)
        if row.source_node == speaker:
            self._told[row.run_id] = row.state in ENDED, row.time
        return speaker

    def write(self) -> None:
        """Put what was taken into the store. Raises FednodeError when its disk says no."""
        rows, self._rows = self._rows, []
        self.store.write(rows)

    def write_if_many(self) -> None:
        if len(self._rows) >= WRITE_ROWS:
            self.write()

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = Store(self._path)
        return self._store

    def close(self) -> None:
        """Write the rest, if there is anything, and let go of the store."""
        if self._rows or self._store is not None:
            self.write()
            self.store.close()
            self._store = None


class SimulatedRecord:
    """One simulated node's record. Queries see what all nodes of `shared` have flushed.

    Args:
        node_id: whose it is; statuses that name no source are its own.
        shared: None for a store of its own.
    """

    tells_of_others = False
    trouble = ""

    def __init__(self, node_id: str, shared: SharedStore | None = None) -> None:
        self._node_id = node_id
        self._shared = shared or SharedStore()
        self._pending: deque[tuple[float, Row | tuple[Key, Rows]]] = deque()

    def add(self, *rows: Row) -> None:
        now = trio.current_time()
        self._settle(now - FLUSH_INTERVAL_S)
        for row in rows:
            if isinstance(row, StatusRow) and not row.source_node:
                row = replace(row, source_node=self._node_id)
            self._pending.append((now, row))

    def add_once(self, key: Key, rows: Callable[[], Sequence[Row]]) -> Sequence[Row]:
        """Take rows that all nodes make alike: they are made of the first, and given to it alone."""
        now = trio.current_time()
        self._settle(now - FLUSH_INTERVAL_S)
        if not self._shared.promise(key):
            self._pending.append((now, (key, rows)))
            return ()
        made = rows()
        self._pending.append((now, (key, lambda: made)))
        return made

    def crash(self) -> None:
        """Lose what was added within the last flush interval, as a killed node does."""
        self._settle(trio.current_time() - FLUSH_INTERVAL_S)
        self._pending.clear()
        self._shared.hush(self._node_id)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self._settle(trio.current_time())

    async def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        await trio.lowlevel.checkpoint()
        self._settle(trio.current_time() - FLUSH_INTERVAL_S)
        run = parameters.get("run_id")  # of several runs at once, their list was asked for before
        if name in _QUERIES_OF_A_RUN and run is not None and not self._shared.has_run(self._node_id, run):
            return []
        with self._reader() as reader:
            return reader.query(name, parameters)

    async def change(self, work: Callable[[Any], T]) -> T:
        await trio.lowlevel.checkpoint()
        self._shared.write()
        return self._shared.store.change(work)

    async def sql(self, statement: str, rows_max: int) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        await trio.lowlevel.checkpoint()
        with self._reader() as reader:
            return reader.sql(statement, rows_max)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Reader]:
        self._shared.write()
        with contextlib.closing(self._shared.store.reader()) as reader:
            yield reader

    def _settle(self, until: float) -> None:
        """Hand over what was added by `until`: from then on no crash of this node loses it."""
        while self._pending and self._pending[0][0] <= until:
            entry = self._pending.popleft()[1]
            if isinstance(entry, tuple):
                self._shared.take_once(*entry)
                continue
            if isinstance(entry, RunRow):
                self._shared.took_run(self._node_id, entry.run_id)
            self._shared.take(entry)
        self._shared.write_if_many()
