"""Room for blobs, promised before it is taken: who looks whether there is room has it, in one step.

Of several who ask at once none gets what another was promised. What is promised counts as used until it counts by a
file of its own, and is given back however its taker ends.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tracker.blobs.quota import Quota
from tracker.blobs.stored import size_of

Counting = AbstractContextManager[object]  # held while a file that counts gets its place


class Room:
    """`size` bytes that somebody was promised."""

    def __init__(self, rooms: "Rooms", size: int) -> None:
        self.size = size
        self._rooms = rooms

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within, a file with these bytes gets a name by which it counts; from then on the promise does not."""
        with self._rooms.counting:
            yield
            self._rooms.promised -= self.size
            self.size = 0


class Rooms:
    """What is promised of one store's room. For any thread.

    Args:
        quota: None for none.
        count: what the files here count, and how much of that is not on the disk yet, in bytes.
        folder: on the disk that they lie on.
    """

    def __init__(self, quota: Quota | None, count: Callable[[], tuple[int, int]], folder: Path) -> None:
        self.counting = threading.Lock()  # to be held while a file that counts changes its place
        self.promised = 0
        self._quota = quota
        self._count = count
        self._folder = folder

    @contextmanager
    def promise(self, size: int) -> Iterator[Room]:
        """Within, so many bytes more are this taker's. Raises Refused where there is no room for them."""
        with self.counting:
            self._check(size)
            self.promised += size
        room = Room(self, size)
        try:
            yield room
        finally:
            with self.counting:
                self.promised -= room.size

    @contextmanager
    def beginning(self, file: Path, size: int) -> Iterator[None]:
        """Within, `file` is made, or made longer, which counts with `size` bytes from the beginning. Raises Refused
        where there is no room for it."""
        with self.counting:
            self._check(size - size_of(file))
            yield

    def _check(self, more: int) -> None:
        if self._quota is not None:
            used, unwritten = self._count()
            self._quota.check(used + self.promised, more, self._folder, unwritten + self.promised)
