"""How far transfers are: what has come or gone of each blob, how fast, and how long it will take yet."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import trio

from protocol.keys import BlobId, NodeId

SHOWN_AFTER_S = 1.0  # what is over sooner nobody needs to see
RATE_WINDOW_S = 5.0  # short enough to follow a line …
RATE_CHUNKS_MIN = 4  # … and so many of the newest chunks on one that takes longer for them: 8 s each at 1 Mbit/s
SILENT_GAPS = 3.0  # times what a chunk takes as a rule; where none came for longer there is no rate to tell
OUT_IDLE_S = 60.0  # nothing went for so long: the taker waits for others, if it is there at all
OUT_MAX = 1024  # transfers out of here that are remembered; the oldest go


@dataclass(frozen=True, slots=True)
class Transfer:
    """A chunk that went over the wire."""

    peer: NodeId
    blob: BlobId
    size: int  # bytes
    incoming: bool
    seconds: float = 0.0  # that handing it over took, reading it from the disk included


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """A blob on its way. `peer` is "" where it comes from several; `left_s` is None while there is no rate; `began` is
    by trio's clock, in seconds. Of one that goes out, `done_bytes` is what was given: its taker may have the rest of
    others, so neither `total_bytes` nor `left_s` is more than a bound."""

    blob: BlobId
    direction: Literal["in", "out"]
    peer: NodeId | Literal[""]
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    left_s: float | None
    began: float


class Meter:
    """Bytes of one transfer, and their rate from one chunk to the next: over RATE_WINDOW_S, or over RATE_CHUNKS_MIN
    chunks where these take longer. The first chunk only begins it, for a limit lets that go at once."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.done_bytes = 0
        self.last_at = self.began
        self._newest: deque[tuple[float, int]] = deque()

    def add(self, size: int) -> None:
        self.last_at = trio.current_time()
        self.done_bytes += size
        self._newest.append((self.last_at, size))
        while len(self._newest) > RATE_CHUNKS_MIN + 1 and self._newest[0][0] < self.last_at - RATE_WINDOW_S:
            self._newest.popleft()

    def rate(self) -> float:
        """Bytes per second; 0 while it cannot be told, which is before the second chunk, and when chunks stay away."""
        if len(self._newest) < 2:
            return 0.0
        first_at, first_size = self._newest[0]
        seconds = self.last_at - first_at
        chunk_s = seconds / (len(self._newest) - 1)
        silent_s = trio.current_time() - self.last_at
        if silent_s > max(SILENT_GAPS * chunk_s, RATE_WINDOW_S):
            return 0.0
        seconds += max(silent_s - chunk_s, 0.0)  # the next one is late by this
        return (sum(size for _, size in self._newest) - first_size) / seconds if seconds > 0 else 0.0


def progress_of(
    blob: BlobId, direction: Literal["in", "out"], peer: NodeId | Literal[""], done: int, total: int, meter: Meter
) -> TransferProgress | None:
    """None as long as it is not worth showing."""
    if trio.current_time() - meter.began < SHOWN_AFTER_S:
        return None
    rate = meter.rate()
    left = (total - done) / rate if rate else None
    return TransferProgress(blob, direction, peer, done, total, rate, left, meter.began)


class Outgoing:
    """The blobs on their way out of here, as far as chunks of them went lately."""

    def __init__(self) -> None:
        self._meters: dict[tuple[NodeId, BlobId], tuple[Meter, int]] = {}

    def sent(self, peer: NodeId, blob: BlobId, size: int, total: int) -> None:
        """A chunk went, of a blob of `total` bytes."""
        meter, _ = self._meters.get((peer, blob)) or (Meter(), total)
        meter.add(size)
        if meter.done_bytes >= total:
            self._meters.pop((peer, blob), None)
            return
        self._meters[peer, blob] = meter, total
        if len(self._meters) > OUT_MAX:
            del self._meters[next(iter(self._meters))]

    def over(self, peer: NodeId, blob: BlobId) -> None:
        """The peer wants nothing more of the blob, or is gone."""
        self._meters.pop((peer, blob), None)

    def progress(self) -> list[TransferProgress]:
        old = trio.current_time() - OUT_IDLE_S
        self._meters = {key: found for key, found in self._meters.items() if found[0].last_at > old}
        found = (
            progress_of(blob, "out", peer, meter.done_bytes, total, meter)
            for (peer, blob), (meter, total) in self._meters.items()
        )
        return [each for each in found if each is not None]
