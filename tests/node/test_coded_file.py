"""How far an update is coded, as the worker says, and what the node makes of that, for workers may lie."""

import os
from pathlib import Path
from typing import cast

import pytest
import trio

from aggregation.tensors.sources import FileSink
from node.seams import CodedFile
from node.training.coded_file import STEP_BYTES, OpenCodedFile, ToldSink
from node.training.staged_files import open_left
from node.training.worker_attended import AttendedWorker, _Call
from node.training.worker_process import WorkerProcess
from node.training.worker_session import _Following
from node.training.worker_watch import WatchLimits
from protocol.errors import FednodeError

PIECE = STEP_BYTES // 4


class Heard:
    """node.seams.CodedUpdate, for looking at."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, CodedFile]] = []
        self.upto: list[int] = []

    def begin(self, size: int, file: CodedFile) -> None:
        self.begun.append((size, file))

    def grew(self, upto: int) -> None:
        self.upto.append(upto)


def test_the_worker_tells_now_and_then_and_when_all_is_there(tmp_path: Path) -> None:
    told: list[int] = []
    size = 2 * STEP_BYTES + 100
    with FileSink(tmp_path / "update") as file:
        sink = ToldSink(file, size, told.append)
        for offset in range(0, size, PIECE):
            sink.write(offset, bytes(min(PIECE, size - offset)))
            written = (tmp_path / "update").stat().st_size
            assert not told or told[-1] <= written
    assert told == [STEP_BYTES, 2 * STEP_BYTES, size]


def test_what_is_written_out_of_order_is_not_told(tmp_path: Path) -> None:
    told: list[int] = []
    with FileSink(tmp_path / "update") as file:
        sink = ToldSink(file, 2 * STEP_BYTES, told.append)
        sink.write(STEP_BYTES, bytes(STEP_BYTES))
        sink.write(0, bytes(STEP_BYTES))
    assert told == [STEP_BYTES]
    assert (tmp_path / "update").stat().st_size == 2 * STEP_BYTES


def test_an_open_file_is_read_whatever_it_is_called_and_not_once_it_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "update").write_bytes(b"0123456789")
        file = OpenCodedFile(open_left(tmp_path, "update", 10))
        (tmp_path / "update").rename(tmp_path / "elsewhere")
        assert await file.read(2, 3) == b"234"
        with pytest.raises(FednodeError):
            await file.read(8, 3)
        file.close()
        other = os.open(tmp_path / "elsewhere", os.O_RDONLY)  # most likely with the same number
        try:
            with pytest.raises(FednodeError):
                await file.read(0, 1)
            file.close()
            os.fstat(other)
        finally:
            os.close(other)

    trio.run(main)


def test_the_node_opens_a_plain_file_of_the_session_and_nothing_else(tmp_path: Path) -> None:
    """A link leads to nobody's secrets; a worker that says so of no file at all is not believed."""
    (tmp_path / "secret").write_bytes(bytes(100))
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.link(tmp_path / "secret", tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(bytes(101))
    (tmp_path / "plain").write_bytes(bytes(100))

    async def main() -> None:
        for name in ("link", "second", "pipe", "nothing", "long"):
            following = _Following(
                heard := Heard(), lambda name=name: (100, OpenCodedFile(open_left(tmp_path, name, 100)))
            )
            await following(50)
            assert heard.begun == []
        following = _Following(heard := Heard(), lambda: (100, OpenCodedFile(open_left(tmp_path, "plain", 100))))
        for upto in (50, 10**18, 100):
            await following(upto)
        ((size, file),) = heard.begun
        assert (size, heard.upto) == (100, [50, 10**18, 100])
        assert await file.read(0, 100) == bytes(100)
        file.close()

    trio.run(main)


def test_the_workers_word_counts_for_the_call_under_way_alone() -> None:
    """One that was given up may be coding still."""
    told: list[int] = []

    async def hear(upto: int) -> None:
        told.append(upto)

    async def main() -> None:
        worker = AttendedWorker(cast(WorkerProcess, None), lambda output: None, WatchLimits())
        for call in (None, _Call(2), _Call(2, hear)):
            worker._call_now = call
            for number in (1, 2, 3):
                worker._take({"is": "coded", "call": number, "bytes": number * 10})
                await worker._tell_coded()
        for nonsense in ("many", -1, None, 1.5):
            with pytest.raises((TypeError, ValueError)):
                worker._take({"is": "coded", "call": 2, "bytes": nonsense})

    trio.run(main)
    assert told == [20]
