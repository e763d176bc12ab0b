"""What every Record promises, asked of both: the real one over a file, and a simulated node's."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.record.record import FLUSH_INTERVAL_S, StoreRecord, open_record
from node.seams import Record
from protocol.errors import FednodeError, Refused
from simulations.world.record import SeenSequences, SharedStore, SimulatedRecord
from tracker.store import Store
from tracker.tables.rows import LogRow, MetricRow, RoundRow, RunRow, StatusRow

Body = Callable[[Record], Awaitable[None]]
DEADLINE_S = 30.0


def run_real(directory: Path, body: Body) -> None:
    async def main() -> None:
        with trio.fail_after(DEADLINE_S):
            record = await open_record(directory / "store.duckdb")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(record.run)
                try:
                    await body(record)
                finally:
                    await record.close()
                nursery.cancel_scope.cancel()

    trio.run(main)


def run_simulated(directory: Path, body: Body) -> None:
    async def main() -> None:
        await body(SimulatedRecord("node-1"))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture(params=[run_real, run_simulated], ids=["store", "simulated"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    return lambda body: request.param(tmp_path, body)


Run = Callable[[Body], None]


def metric(sequence: int, value: float = 1.0, **changes: Any) -> MetricRow:
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "node_id": "node-1",
        "scope": "global",
        "split": "eval",
        "key": "loss",
        "class_": None,
        "round": sequence,
        "epoch": 0,
        "step": 0,
        "value": value,
        "samples": 10,
        "time": 1_800_000_000.25,
        "source_node": "node-1",
        "sequence": sequence,
    }
    return MetricRow(**{**fields, **changes})


def run_row(name: str = "first") -> RunRow:
    return RunRow("run-1", name, "p", "e", "g", "digits", "d", "node-1", 3, 1_800_000_000.0, '{"rounds": 3}')


def test_what_is_flushed_is_seen(run: Run) -> None:
    async def body(record: Record) -> None:
        record.add(run_row(), metric(1, 0.5), metric(2, 0.25))
        record.add()
        record.add(LogRow("node-1", "run-1", "INFO", "fednode", "hello", 1_800_000_000.5, 7))
        await record.flush()
        rows = await record.query("metrics", run_id="run-1", node="node-1")
        assert [(row["round"], row["value"]) for row in rows] == [(1, 0.5), (2, 0.25)]
        assert rows[0]["time"] == "2027-01-15T08:00:00.250000Z"
        assert [row["seq"] for row in await record.query("logs")] == [7]
        (found,) = await record.query("run", run_id="run-1")
        assert (found["name"], found["manifest"], found["loss"]) == ("first", {"rounds": 3}, 0.25)

    run(body)


def test_a_replay_counts_nothing_twice(run: Run) -> None:
    async def body(record: Record) -> None:
        for _ in range(3):
            record.add(metric(2), metric(1), metric(2), StatusRow("run-1", "", "RUNNING", "", 0, 1.0, 1))
            await record.flush()
        record.add(metric(3, source_node="node-2", node_id="node-2"))
        await record.flush()
        columns, rows, truncated = await record.sql("SELECT count(*) AS n FROM metrics", 10)
        assert (columns, rows, truncated) == (["n"], [(3,)], False)
        assert len(await record.query("statuses")) == 1

    run(body)


def test_a_later_fact_replaces_the_earlier(run: Run) -> None:
    async def body(record: Record) -> None:
        record.add(run_row("first"), run_row("second"))
        await record.flush()
        assert [row["name"] for row in await record.query("runs")] == ["second"]
        record.add(run_row("third"))
        await record.flush()
        assert [row["name"] for row in await record.query("runs")] == ["third"]

    run(body)


def test_rows_that_cannot_be_stored_take_no_others_with_them(run: Run) -> None:
    async def body(record: Record) -> None:
        for bad in (metric(5, round=2**70), metric(6, key="\ud800"), metric(7, time=1e300), metric(8, run_id=None)):
            record.add(metric(bad.sequence * 10), bad, metric(bad.sequence * 10 + 1))
        record.add(RoundRow("run-1", 1, 1, "node-1", "c", "m", 1.0, 1, "no JSON", 1, 1.0), "not a row", run_row())
        await record.flush()
        _, rows, _ = await record.sql("SELECT sequence FROM metrics ORDER BY 1", 100)
        assert [row[0] for row in rows] == [50, 51, 60, 61, 70, 71, 80, 81]
        assert len(await record.query("runs")) == 1

    run(body)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM metrics", "sql-read-only"),
        ("SELECT 1; SELECT 2", "sql-one-statement"),
        ("SELECT * FROM read_text('/etc/passwd')", "sql-function"),
        ("SELEKT 1", "sql-syntax"),
        ("SELECT nothing FROM metrics", "sql"),
    ],
)
def test_peoples_sql_only_reads(run: Run, statement: str, code: str) -> None:
    async def body(record: Record) -> None:
        record.add(metric(1))
        await record.flush()
        with pytest.raises(Refused) as refused:
            await record.sql(statement, 10)
        assert refused.value.code == code
        assert (await record.sql("SELECT count(*) FROM metrics", 10))[1] == [(1,)]

    run(body)


def test_answers_are_cut_off_at_rows_max(run: Run) -> None:
    async def body(record: Record) -> None:
        assert await record.sql("SELECT * FROM range(5)", 5) == (["range"], [(i,) for i in range(5)], False)
        assert await record.sql("SELECT * FROM range(6)", 5) == (["range"], [(i,) for i in range(5)], True)
        _, rows, truncated = await record.sql("SELECT * FROM range(2500)", 2000)
        assert (len(rows), truncated) == (2000, True)

    run(body)


def test_unknown_queries_and_parameters_are_named(run: Run) -> None:
    async def body(record: Record) -> None:
        for call, word in [
            (lambda: record.query("nonsense"), "metrics"),
            (lambda: record.query("runs", colour="red"), "before"),
            (lambda: record.query("metrics"), "run_id"),
        ]:
            with pytest.raises(FednodeError, match=word):
                await call()

    run(body)


# --- the real one alone ------------------------------------------------------------------------------------------


def test_rows_reach_the_disk_without_a_flush(tmp_path: Path) -> None:
    async def body(record: Record) -> None:
        record.add(metric(1))
        while not await record.query("metrics", run_id="run-1"):
            await trio.lowlevel.checkpoint()

    run_real(tmp_path, body)


def test_the_last_rows_are_written_even_when_the_node_is_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        record = await open_record(tmp_path / "store.duckdb")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(record.run)
            record.add(*(metric(number) for number in range(5000)))
            nursery.cancel_scope.cancel()
            await record.close()

    trio.run(main)
    store = Store(tmp_path / "store.duckdb")
    assert store.reader().sql("SELECT count(*) FROM metrics", 1)[1] == [(5000,)]
    store.close()


def test_a_cancelled_read_is_interrupted(tmp_path: Path) -> None:
    endless = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"

    async def body(record: Record) -> None:
        start = trio.current_time()
        with trio.move_on_after(0.2) as scope:
            await record.sql(endless, 1)
        assert scope.cancelled_caught
        with trio.move_on_after(0) as scope:
            await record.sql(endless, 1)
        assert scope.cancelled_caught
        assert trio.current_time() - start < 5
        assert (await record.sql("SELECT 1", 1))[1] == [(1,)]

    run_real(tmp_path, body)


def test_a_statement_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.record.record.SQL_DEADLINE_S", 0.1)

    async def body(record: Record) -> None:
        with pytest.raises(Refused) as refused:
            await record.sql("SELECT count(*) FROM range(1000000000) a, range(1000000000) b", 1)
        assert refused.value.code == "sql-too-slow"

    run_real(tmp_path, body)


def test_many_reads_and_writes_at_once(tmp_path: Path) -> None:
    async def body(record: Record) -> None:
        async def read() -> None:
            await record.query("metrics", run_id="run-1", node="")

        async with trio.open_nursery() as nursery:
            for number in range(30):
                record.add(*(metric(number * 100 + i) for i in range(100)))
                nursery.start_soon(read)
                nursery.start_soon(record.flush)
        assert len(await record.query("metrics", run_id="run-1", node="node-1")) == 3000

    run_real(tmp_path, body)


def test_a_disk_that_says_no_costs_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(record: Record) -> None:
        assert isinstance(record, StoreRecord)

        def full(self: Store, rows: object) -> int:
            raise FednodeError("The store could not be written: no space left", remedy="make room")

        record.add(metric(1))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", full)
            patch.setattr("node.record.record.PENDING_ROWS_MAX", 3)
            with pytest.raises(FednodeError, match="no space"):
                await record.flush()
            record.add(metric(2), metric(3), metric(4))
        await record.flush()
        assert [row["round"] for row in await record.query("metrics", run_id="run-1", node="node-1")] == [1, 2, 3]

    run_real(tmp_path, body)


# --- the simulated one alone -------------------------------------------------------------------------------------


def test_simulated_nodes_share_a_store_and_count_once(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"

    async def main() -> None:
        shared = SharedStore(path)
        records = [SimulatedRecord(f"node-{number}", shared) for number in range(5)]
        for record in records:
            record.add(run_row(), *(metric(number) for number in range(10)))
            record.add(StatusRow("run-1", "", "RUNNING", "", 0, 1.0, 1))
            record.add(
                *(StatusRow("run-1", f"node-{number}", "TRAINING", "", 0, 1.0, 2 + number) for number in range(5))
            )
            await record.flush()
        assert len(await records[3].query("metrics", run_id="run-1", node="node-1")) == 10
        shared.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    store = Store(path)
    reader = store.reader()
    assert reader.sql("SELECT count(*) FROM metrics", 1)[1] == [(10,)]
    # The run's state as one node saw it, and every node's as it saw itself.
    assert reader.sql("SELECT count(DISTINCT source_node) FROM status_events WHERE node_id = ''", 1)[1] == [(1,)]
    assert reader.sql("SELECT count(*) FROM status_events WHERE node_id = source_node", 1)[1] == [(5,)]
    store.close()


def test_a_simulated_crash_loses_the_last_flush_interval() -> None:
    async def main() -> None:
        record = SimulatedRecord("node-1")
        record.add(metric(1))
        with trio.move_on_after(FLUSH_INTERVAL_S):
            await trio.sleep_forever()
        record.add(metric(2))
        record.crash()
        record.add(metric(3))
        await record.flush()
        assert [row["round"] for row in await record.query("metrics", run_id="run-1", node="node-1")] == [1, 3]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_seen_sequences_agree_with_a_set() -> None:
    import random

    for seed in range(50):
        randomness = random.Random(seed)
        seen, plain = SeenSequences(), set()
        for _ in range(200):
            number = randomness.randrange(60)
            assert seen.add(number) == (number not in plain)
            plain.add(number)


def test_a_change_is_made_whole_or_not_at_all(run: Run) -> None:
    async def body(record: Record) -> None:
        record.add(metric(1), metric(2))
        await record.flush()
        deleted = await record.change(lambda c: c.execute("DELETE FROM metrics WHERE sequence = 1").fetchone()[0])
        assert deleted == 1

        def half(connection: Any) -> None:
            connection.execute("DELETE FROM metrics")
            connection.execute("SELECT error('no')")

        with pytest.raises(FednodeError):
            await record.change(half)
        assert await record.sql("SELECT sequence FROM metrics", 10) == (["sequence"], [(2,)], False)
        record.add(metric(2), metric(3))
        await record.flush()
        assert (await record.sql("SELECT count(*) FROM metrics", 1))[1] == [(2,)]

    run(body)


def test_compacting_and_copying_go_on_beside_readers_and_writers(tmp_path: Path) -> None:
    """Questions are asked, and rows come, all the time; none is lost, and none is told what it should not be."""

    async def body(record: Record) -> None:
        assert isinstance(record, StoreRecord)
        count = 0
        done = trio.Event()

        async def write() -> None:
            nonlocal count
            while not done.is_set():
                record.add(metric(count, round=0, step=count))
                count += 1
                if count % 50 == 0:
                    await record.flush()
                await trio.lowlevel.checkpoint()

        async def ask() -> None:
            while not done.is_set():
                assert len(await record.query("metrics", run_id="run-1", limit=1)) >= 0
                await record.sql("SELECT count(*) FROM metrics", 1)

        async with trio.open_nursery() as nursery:
            for work in (write, ask, ask, ask):
                nursery.start_soon(work)
            for turn in range(5):
                assert (await record.compact()).bytes_after > 0
                copy = await record.write_copy(f"copy-{turn}.duckdb")
                Store(copy).close()
            done.set()
        await record.flush()
        assert (await record.sql("SELECT count(*) FROM metrics", 1))[1] == [(count,)]

    run_real(tmp_path, body)


def test_a_reader_that_lasts_is_interrupted_when_the_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.record.record.DRAIN_S", 0.1)
    monkeypatch.setattr("tracker.copies.bytes_of", lambda path, sizes=iter((1, 2)): next(sizes))  # it is worth it

    async def body(record: Record) -> None:
        assert isinstance(record, StoreRecord)
        refused: list[Refused] = []

        async def endless() -> None:
            try:
                await record.sql("SELECT count(*) FROM range(100000000000) a, range(1000000) b", 1)
            except Refused as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(endless)
            while not record._reading:
                await trio.lowlevel.checkpoint()
            await record.compact()
        assert [error.code for error in refused] == ["interrupted"]
        assert (await record.sql("SELECT 1", 1))[1] == [(1,)]

    run_real(tmp_path, body)
