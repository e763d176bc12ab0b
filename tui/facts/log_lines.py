"""The log as the dashboard holds it: the newest lines, and of them those that are looked for. Pure.

Thousands of lines may come in a second, so each is looked at once: `Selection` remembers which of those before were
wanted.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from tui.facts.fields import LONG_AGO
from tui.facts.nodes import LEVELS, LogLine

LOG_LINES_MAX = 10_000  # held of what comes; the record has the rest
READ_LINES_MAX = 100_000  # scrolled through at most: some 60 MB


class HeldLog:
    """The newest lines, by time as far as their nodes' clocks agree."""

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque(maxlen=LOG_LINES_MAX)
        self.count = 0  # lines ever taken in; grows also when old ones fall out
        self.revision = 0  # grows when earlier lines were put among those that were there
        self.left_out = 0  # lines that came too fast to be told; the record has them
        self._merged: set[tuple[str, int]] = set()

    def add(self, lines: Iterable[LogLine]) -> int:
        """Lines as they come, but for those that an answer has told already. Gives how many are new."""
        fresh = [line for line in lines if not (line.seq and line.key in self._merged)]
        self.lines.extend(fresh)
        self.count += len(fresh)
        return len(fresh)

    def merge(self, lines: Iterable[LogLine]) -> int:
        """Put earlier lines where they belong by time; those that are there already are passed over."""
        told = list(lines)
        self._merged = {line.key for line in told}
        known = {line.key for line in self.lines}
        fresh = [line for line in told if line.key not in known]
        if fresh:
            merged = sorted([*self.lines, *fresh], key=place)
            self.lines.clear()
            self.lines.extend(merged)
            self.count += len(fresh)
            self.revision += 1
        return len(fresh)


def place(line: LogLine) -> tuple[datetime, str, int]:
    """Where a line stands among those of all nodes: by time, and at one and the same time by node and number."""
    return line.time or LONG_AGO, line.node_id, line.seq


def place_text(line: LogLine) -> str:
    """The same as the local API has it in `before`."""
    time = (line.time or LONG_AGO).replace(tzinfo=None)
    return f"{time.isoformat(timespec='microseconds')},{line.seq},{line.node_id}"


@dataclass(frozen=True, slots=True)
class Sought:
    """Which lines are wanted: of `level` (an index into LEVELS) and above, of one node or run if it is named, with
    `text` in the message or the logger's name, capitals or not."""

    level: int = 0
    node_id: str = ""
    run_id: str = ""
    text: str = ""

    def wants(self, line: LogLine) -> bool:
        if (LEVELS.index(line.level) if line.level in LEVELS else len(LEVELS)) < self.level:
            return False
        if (self.node_id and line.node_id != self.node_id) or (self.run_id and line.run_id != self.run_id):
            return False
        wanted = self.text.lower()
        return not wanted or wanted in line.message.lower() or wanted in line.logger.lower()


class Selection:
    """The lines of a log that are wanted, the newest last. `keep_up` takes in what has come since.

    While it is `still` nothing falls out at its beginning: somebody reads there.
    """

    def __init__(self, log: HeldLog, sought: Sought) -> None:
        self.log = log
        self.sought = sought
        self.lines: list[LogLine] = []
        self.is_full = False  # nothing more is taken in, while somebody reads
        self._places: dict[tuple[str, int], int] = {}  # of each line, by its key: `_first` higher than its index
        self._first = 0
        self._revision = -1  # of the log, when all of it was looked at
        self._count = 0  # of the log's lines, those looked at
        self.builds = 0  # grows when everything was put together anew

    def keep_up(self, *, still: bool = False) -> None:
        log, new = self.log, self.log.count - self._count
        is_stale = log.revision != self._revision or new > len(log.lines) or self.is_full
        if self._revision < 0 or (is_stale and not still):
            self._build()
        elif new and not self.is_full:
            tail = islice(reversed(log.lines), new)
            fresh = [line for line in tail if line.key not in self._places and self.sought.wants(line)]
            if log.revision != self._revision and self.lines:  # some of them belong higher up, where somebody reads
                fresh = [line for line in fresh if place(line) > place(self.lines[-1])]
            self._append(reversed(fresh))
        self._count = log.count
        if still:
            self.is_full = len(self.lines) >= READ_LINES_MAX
        else:
            self._trim()

    def prepend(self, earlier: list[LogLine]) -> int:
        """Put what was said before at the beginning. Gives how many lines these are, without those that are there."""
        fresh = [line for line in earlier if line.key not in self._places and self.sought.wants(line)]
        self._first -= len(fresh)
        for at, line in enumerate(fresh, self._first):
            self._places[line.key] = at
        self.lines[:0] = fresh
        self.is_full = len(self.lines) >= READ_LINES_MAX
        return len(fresh)

    def find(self, key: tuple[str, int]) -> int | None:
        """The index of the line with this key."""
        at = self._places.get(key)
        return None if at is None else at - self._first

    def _build(self) -> None:
        self.lines, self._places, self._first, self.is_full = [], {}, 0, False
        self._revision = self.log.revision
        self.builds += 1
        self._append(filter(self.sought.wants, self.log.lines))

    def _append(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            self._places[line.key] = self._first + len(self.lines)
            self.lines.append(line)

    def _trim(self) -> None:
        over = len(self.lines) - LOG_LINES_MAX
        if over > 0:
            for line in self.lines[:over]:
                self._places.pop(line.key, None)
            del self.lines[:over]
            self._first += over
