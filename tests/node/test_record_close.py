"""The record is closed while somebody still reads it: the node stops in order all the same."""

from pathlib import Path

import pytest
import trio

from node.record.record import open_record
from protocol.errors import FednodeError

LONG = "SELECT count(*) FROM range(100000000000) a WHERE a.range % 7 = 3"  # minutes


@pytest.mark.parametrize("readers", [1, 3])
def test_who_still_reads_is_interrupted_and_who_comes_then_is_told(tmp_path: Path, readers: int) -> None:
    failures: list[FednodeError] = []

    async def main() -> None:
        record = await open_record(tmp_path / "record.duckdb")

        async def read() -> None:
            with pytest.raises(FednodeError) as refused:
                await record.sql(LONG, 1)
            failures.append(refused.value)

        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(read)
            while not record._reading:
                await trio.lowlevel.checkpoint()
            with trio.fail_after(60):
                await record.close()
        with pytest.raises(FednodeError):
            await record.query("runs")

    trio.run(main)
    assert len(failures) == readers
