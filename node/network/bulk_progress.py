"""How far transfers are: what has come or gone of each blob, how fast, and how long it will take yet."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import trio

from protocol.keys import BlobId, NodeId

SHOWN_AFTER_S = 1.0  # what is over sooner nobody needs to see
RATE_WINDOW_S = 5.0  # long enough for a few chunks on a slow line, short enough to follow it
OUT_IDLE_S = 10.0  # nothing asked for so long: the taker has enough, or is gone
OUT_MAX = 1024  # transfers out of here that are remembered; the oldest go


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """A blob on its way. `peer` is "" where it comes from several; `left_s` is None while there is no rate; `began` is
    by trio's clock, in seconds."""

    blob: BlobId
    direction: Literal["in", "out"]
    peer: NodeId | Literal[""]
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    left_s: float | None
    began: float


class Meter:
    """Bytes of one transfer, and their rate in the last RATE_WINDOW_S."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.done_bytes = 0
        self.last_at = self.began
        self._newest: deque[tuple[float, int]] = deque()

    def add(self, size: int) -> None:
        self.last_at = trio.current_time()
        self.done_bytes += size
        self._newest.append((self.last_at, size))
        self._forget_old()

    def rate(self) -> float:
        self._forget_old()
        seconds = min(RATE_WINDOW_S, trio.current_time() - self.began)
        return sum(size for _, size in self._newest) / seconds if seconds > 0 else 0.0

    def _forget_old(self) -> None:
        while self._newest and self._newest[0][0] < trio.current_time() - RATE_WINDOW_S:
            self._newest.popleft()


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

    def progress(self) -> list[TransferProgress]:
        old = trio.current_time() - OUT_IDLE_S
        self._meters = {key: found for key, found in self._meters.items() if found[0].last_at > old}
        found = (
            progress_of(blob, "out", peer, meter.done_bytes, total, meter)
            for (peer, blob), (meter, total) in self._meters.items()
        )
        return [each for each in found if each is not None]
