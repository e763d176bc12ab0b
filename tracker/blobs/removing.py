"""Removing large files without holding anybody up.

Decides that a large file loses its name at once and its bytes little by little, in a thread of its own. Where freed
blocks are handed back to the device at once (the mount option `discard`), removing 100 MB takes a tenth of a second,
and whatever is being forced to the disk meanwhile, such as a vote, waits for all of it.
"""

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections import deque
from pathlib import Path

from tracker.durable import TEMPORARY_PREFIX

LARGE_BYTES = 8 * 1024 * 1024  # smaller files are removed at once
STEP_BYTES = 8 * 1024 * 1024  # freed at a time: some ten milliseconds where freeing is slow
PAUSE_S = 0.08  # after each step, for others: 100 MB/s are more than rounds leave behind for long
WAITING_BYTES_MAX = 1024 * 1024 * 1024  # beyond, files are removed at once: the room is somebody's


class Remover:
    """Removes files of one file system. For any thread. What is still to be removed when the process ends lies in
    `folder` under temporary names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Path, int]] = deque()
        self._waiting_bytes = 0
        self._is_at_work = False

    def remove(self, path: Path) -> None:
        """Remove a file. One that is not there is no error. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            with self._lock:
                is_to_wait = size >= LARGE_BYTES and self._waiting_bytes + size <= WAITING_BYTES_MAX
                self._waiting_bytes += size * is_to_wait
            if not is_to_wait:
                path.unlink()
                return
            gone = self._folder / (TEMPORARY_PREFIX + secrets.token_hex(8))
            try:
                os.rename(path, gone)
            except OSError:
                self._done(size)
                raise
            self._wait(gone, size)

    def _wait(self, path: Path, size: int) -> None:
        with self._lock:
            self._waiting.append((path, size))
            begins, self._is_at_work = not self._is_at_work, True
        if begins:
            threading.Thread(target=self._work, name="remover", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_at_work = False
                    return
                path, size = self._waiting.popleft()
            with contextlib.suppress(OSError):  # the next start removes it
                _free(path, size)
            self._done(size)

    def _done(self, size: int) -> None:
        with self._lock:
            self._waiting_bytes -= size


def _free(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_nlink == 1 and _is_ours_alone(descriptor):  # who has it otherwise keeps it
            for left in range(size - STEP_BYTES, 0, -STEP_BYTES):
                time.sleep(PAUSE_S)
                os.ftruncate(descriptor, left)
    finally:
        os.close(descriptor)
    path.unlink()


def _is_ours_alone(descriptor: int) -> bool:
    """Whether nobody else has the file open, or mapped: who reads a mapped page that was cut off is killed (SIGBUS).
    Only Linux can say, by whether it grants a lease (fcntl(2), F_SETLEASE)."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)  # at once: its end would be told by a signal
    except OSError:
        return False
    return True
