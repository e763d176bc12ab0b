"""How fast each node's line is, up and down, and how what goes over it at the same time shares it.

Streams share a line evenly: each gets at most its even part of its receiver's rate, and of its sender's an even part of
what those leave that cannot take theirs. So a line is never overbooked, and a receiver's may have a little to spare.
What fits a few packets is not held up by what others send; the frames of one stream come in order. Nodes have no limit
of their own unless they are given one, and what goes between two such costs nothing here.
"""

from collections import deque
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Protocol

import trio

from protocol.keys import NodeId

SHORT_BYTES = 4096  # of a frame that slips between others
UNLIMITED = 1e15  # bytes per second: no time at all


class _Agenda(Protocol):
    def at(self, time: float, do: Callable[[], None]) -> None: ...


class _Frame:
    """What is going over two lines now: the first of its stream's frames."""

    __slots__ = ("bytes_left", "count", "done", "rate", "since", "source", "target")

    def __init__(self, source: NodeId, target: NodeId, size: int, done: Callable[[], None]) -> None:
        self.source = source
        self.target = target
        self.bytes_left = float(size)
        self.done = done
        self.rate = 0.0
        self.since = trio.current_time()
        self.count = 0  # of changes of its rate: what was put on the agenda before the last one is void


class Lines:
    """The lines of all nodes that have a limit."""

    def __init__(self, agenda: _Agenda) -> None:
        self._agenda = agenda
        self._up: dict[NodeId, float] = {}  # bytes per second
        self._down: dict[NodeId, float] = {}
        self._going: dict[Hashable, _Frame] = {}
        self._waiting: dict[Hashable, deque[_Frame]] = {}
        self._sending: dict[NodeId, dict[Hashable, None]] = {}  # the streams with a frame under way
        self._receiving: dict[NodeId, dict[Hashable, None]] = {}

    def limit(self, node: NodeId, up_bits_per_s: float, down_bits_per_s: float) -> None:
        """From now on, for frames that are sent later; 0 is no limit."""
        for limits, bits_per_s in ((self._up, up_bits_per_s), (self._down, down_bits_per_s)):
            if bits_per_s:
                limits[node] = bits_per_s / 8
            else:
                limits.pop(node, None)

    def is_limited(self, stream: Hashable, source: NodeId, target: NodeId, size: int) -> bool:
        """Whether a frame has to take its time, or to wait for others of its stream."""
        if not self._up and not self._down:
            return False
        if stream in self._going:
            return True
        return size > SHORT_BYTES and (source in self._up or target in self._down)

    def carry(self, stream: Hashable, source: NodeId, target: NodeId, size: int, done: Callable[[], None]) -> None:
        """Call `done` once the frame has gone over both lines, after those of its stream before it."""
        frame = _Frame(source, target, size, done)
        if stream in self._going:
            self._waiting.setdefault(stream, deque()).append(frame)
        else:
            self._begin(stream, frame)

    def is_moving(self, stream: Hashable) -> bool:
        """Whether something of this stream is on its way over the lines."""
        return stream in self._going

    def drop(self, stream: Hashable) -> None:
        """Nothing more of the stream goes anywhere."""
        self._waiting.pop(stream, None)
        frame = self._going.get(stream)
        if frame is not None:
            self._end(stream, frame)

    def _begin(self, stream: Hashable, frame: _Frame) -> None:
        frame.since = trio.current_time()
        self._going[stream] = frame
        self._sending.setdefault(frame.source, {})[stream] = None
        self._receiving.setdefault(frame.target, {})[stream] = None
        self._share(frame)

    def _end(self, stream: Hashable, frame: _Frame) -> None:
        frame.count += 1
        del self._going[stream], self._sending[frame.source][stream], self._receiving[frame.target][stream]
        self._share(frame)

    def _share(self, changed: _Frame) -> None:
        """The number of streams on two lines has changed: give all whom that touches their rates."""
        sources = {changed.source: None}
        sources |= {self._going[stream].source: None for stream in self._receiving[changed.target]}
        for source in sources:
            self._share_line(source)

    def _share_line(self, source: NodeId) -> None:
        """Divide a sender's rate: evenly, but that nobody gets more than its even part of its receiver's."""
        frames = [(self._part_down(self._going[stream]), stream) for stream in self._sending[source]]
        left = self._up.get(source, UNLIMITED)
        frames.sort(key=itemgetter(0))  # those whom their receivers limit most leave the others more
        for number, (most, stream) in enumerate(frames):
            rate = min(most, left / (len(frames) - number))
            left -= rate
            if rate != self._going[stream].rate:
                self._set_rate(stream, self._going[stream], rate)

    def _part_down(self, frame: _Frame) -> float:
        return self._down.get(frame.target, UNLIMITED) / len(self._receiving[frame.target])

    def _set_rate(self, stream: Hashable, frame: _Frame, rate: float) -> None:
        now = trio.current_time()
        frame.bytes_left -= frame.rate * (now - frame.since)
        frame.rate, frame.since = rate, now
        frame.count += 1
        count, left_s = frame.count, max(frame.bytes_left, 0.0) / rate
        self._agenda.at(now + left_s, lambda: self._arrive(stream, frame, count))

    def _arrive(self, stream: Hashable, frame: _Frame, count: int) -> None:
        if frame.count != count:
            return
        self._end(stream, frame)
        waiting = self._waiting.get(stream)
        if waiting:
            following = waiting.popleft()
            if not waiting:
                del self._waiting[stream]
            self._begin(stream, following)
        frame.done()
