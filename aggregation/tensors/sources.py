"""Where bytes come from and go to: in memory or in files, read and written slab by slab.

Decides that no reader needs a whole update in memory: a round of any number of updates takes the memory of a few slabs.
Files are read with `pread`, not mapped, so that what passes through does not count as this process's memory.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from aggregation.tensors.schema import Buffer
from protocol.errors import FednodeError

OPEN_FILES_MAX = 256  # kept open at once, well below the usual 1,024 a process may have; further ones are reopened
COPY_BYTES = 1024 * 1024  # copied at a time


class Source(Protocol):
    """Bytes of a known length that can be read in any order, any number of times, from several threads at once.

    They must not change meanwhile: give the verified file of a blob, or a reader that verifies on every read."""

    @property
    def size(self) -> int: ...

    def view(self, offset: int, length: int, scratch: memoryview) -> memoryview:
        """`length` bytes from `offset` on: a view of the source's own memory, or of `scratch` after filling it.

        `scratch` is writable and at least `length` bytes long; the answer is valid until it is used again."""


class BytesSource:
    """Bytes in memory; views are views of them."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data).cast("B")

    @property
    def size(self) -> int:
        return len(self._data)

    def view(self, offset: int, length: int, scratch: memoryview) -> memoryview:
        return self._data[offset : offset + length]


class PartsSource:
    """Buffers one after another, as if they were joined; views within one of them are views of it."""

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._parts = [view for part in parts if len(view := memoryview(part).cast("B"))]
        self._starts = [0, *accumulate(map(len, self._parts))]

    @property
    def size(self) -> int:
        return self._starts[-1]

    def view(self, offset: int, length: int, scratch: memoryview) -> memoryview:
        index = bisect_right(self._starts, offset) - 1
        if index < len(self._parts) and offset + length <= self._starts[index + 1]:
            begin = offset - self._starts[index]
            return self._parts[index][begin : begin + length]
        done = 0
        while done < length:
            begin = offset + done - self._starts[index]
            piece = self._parts[index][begin : begin + length - done]
            scratch[done : done + len(piece)] = piece
            done, index = done + len(piece), index + 1
        return scratch[:length]


class FileSource:
    """A file, opened anew for each read unless `open` was called. Raises FednodeError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        try:
            self._size = path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error

    @property
    def size(self) -> int:
        return self._size

    def open(self) -> bool:
        """Keep the file open until `close`, which makes small reads faster. False when it is open already.

        Nobody may read from another thread while this or `close` runs."""
        if self._descriptor >= 0:
            return False
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error) from error
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def view(self, offset: int, length: int, scratch: memoryview) -> memoryview:
        target = scratch[:length]
        try:
            if self._descriptor >= 0:
                _read_fully(self._descriptor, offset, target)
            else:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    _read_fully(descriptor, offset, target)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise self._unreadable(error) from error
        return target

    def _unreadable(self, error: OSError) -> FednodeError:
        return FednodeError(f"{self._path} cannot be read: {error}", remedy="check the disk that holds it")


def as_source(data: "Buffer | Path | Source") -> Source:
    if isinstance(data, bytes | bytearray | memoryview):
        return BytesSource(data)
    return FileSource(data) if isinstance(data, Path) else data


@contextmanager
def kept_open(sources: Iterable[Source]) -> Iterator[None]:
    """Within, the first OPEN_FILES_MAX files among `sources` stay open."""
    open_files = 0
    with ExitStack() as opened:
        for source in sources:
            if isinstance(source, FileSource) and open_files < OPEN_FILES_MAX and source.open():
                opened.callback(source.close)
                open_files += 1
        yield


class Sink(Protocol):
    """Takes bytes of a known total length in any order, each once, from several threads at once."""

    def write(self, offset: int, data: Buffer) -> None: ...


class MemorySink:
    """Collects `size` bytes, then gives them away with `take`."""

    def __init__(self, size: int) -> None:
        # BytesIO hands out the bytes object it works on, so that a model is not in memory twice.
        self._file = io.BytesIO(bytes(size))
        self._view = self._file.getbuffer()

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._view[offset : offset + len(view)] = view

    def take(self) -> bytes:
        """What was written. Nothing can be written afterwards."""
        self._view.release()
        return self._file.getvalue()


class FileSink:
    """Writes a new file of mode 0600 in place, which must not be there yet: one that is cut to nothing and written
    again is flushed to the disk at once by some file systems. Making it durable is left to whoever stores it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, offset: int, data: Buffer) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            offset, rest = offset + written, rest[written:]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "FileSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def copy(source: Source, source_offset: int, length: int, sink: Sink, sink_offset: int) -> None:
    scratch = memoryview(bytearray(min(length, COPY_BYTES)))
    for done in range(0, length, COPY_BYTES):
        part = source.view(source_offset + done, min(COPY_BYTES, length - done), scratch)
        sink.write(sink_offset + done, part)


def _read_fully(descriptor: int, offset: int, target: memoryview) -> None:
    while target:
        count = os.preadv(descriptor, [target], offset)
        if count == 0:
            raise OSError("it is shorter than it was")
        offset, target = offset + count, target[count:]
