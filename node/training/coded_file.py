"""An update while it is coded: the worker's side says how far it has written it, the node's side reads so far."""

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from protocol.errors import FednodeError

if TYPE_CHECKING:  # which load numpy
    from aggregation.tensors.schema import Buffer
    from aggregation.tensors.sources import Sink

STEP_BYTES = 2 * 1024 * 1024  # between two words of the worker's: each costs both ends some 50 µs


class ToldSink:
    """The worker's side: hands on to `sink`, which is to get `size` bytes, and tells how many of them are there, from
    the beginning on, as far as they are written in order."""

    def __init__(self, sink: "Sink", size: int, tell: Callable[[int], None]) -> None:
        self._sink = sink
        self._size = size
        self._tell = tell
        self._upto = self._told = 0

    def write(self, offset: int, data: "Buffer") -> None:
        self._sink.write(offset, data)
        if offset == self._upto:
            self._upto += memoryview(data).nbytes
            if self._upto >= min(self._told + STEP_BYTES, self._size) > self._told:
                self._told = self._upto
                self._tell(self._upto)


class OpenCodedFile:
    """The node's side: node.seams.CodedFile, of a file that is open already, whatever becomes of its name."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._using = threading.Lock()  # a number that is closed while it is read may be another file's by then

    async def read(self, offset: int, length: int) -> bytes:
        return await trio.to_thread.run_sync(partial(self._read, offset, length))

    def _read(self, offset: int, length: int) -> bytes:
        try:
            with self._using:
                data = os.pread(self._descriptor, length, offset) if self._descriptor >= 0 else b""
        except OSError as error:
            raise FednodeError(f"What is coded cannot be read ({error})", remedy="check this disk") from error
        if len(data) != length:
            raise FednodeError("What is coded is not there any more", remedy="nothing to do: it goes when it is whole")
        return data

    def close(self) -> None:
        with self._using:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1
