"""Who sends nothing but bad messages fills neither the log nor the record, and writes no lines of its own into them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from node.network.complaints import COMPLAINTS_BURST, COMPLAINTS_PER_S, PEERS_MAX, Complaints
from node.record.record import open_record
from node.run.chronicle import MESSAGE_CHARACTERS_MAX, Chronicle, Numbers
from node.run.driver import RunDriver
from protocol.keys import NodeId, RunId
from protocol.run.events import Began, Misbehaved, RunEvent, RunOutput
from protocol.run.messages import Reports
from tracker.store import Store
from tracker.tables.rows import LogRow

RUN = RunId("ab" * 32)
EVE, BOB = NodeId("eve"), NodeId("bob")
MESSAGE = Reports(run=RUN, reports=())


class Rows:
    tells_of_others = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *rows: LogRow) -> None:
        self.lines += [row.message for row in rows]


class Machine:
    """One to which every message is a bad one."""

    overview = SimpleNamespace()
    reign = None
    ledger = SimpleNamespace(newest=None, committed=None)

    def step(self, event: RunEvent, now: float) -> list[RunOutput]:
        return [] if isinstance(event, Began) else [Misbehaved(event.peer, "it is bad")]  # type: ignore[union-attr]


class Early:
    async def only_for(self, gathering: object) -> None: ...


class Task:
    carried: Any

    def __init__(self) -> None:
        self.carried = self
        self.early = SimpleNamespace()

    async def on_committed(self, checkpoint: object) -> None: ...

    async def close(self) -> None: ...


def chronicle_into(rows: Rows) -> Chronicle:
    told: Any = rows
    return Chronicle(RUN, NodeId("me"), told, now=lambda: 1.0, sequence=Numbers(lambda: 1.0), changed=lambda *_: None)


def driver_into(rows: Rows) -> RunDriver:
    unused: Any = None
    machine: Any = Machine()
    task: Any = Task()
    data: Any = SimpleNamespace(early=Early())
    return RunDriver(
        RUN,
        machine,
        disk=unused,
        data=data,
        audit=unused,
        task=task,
        chronicle=chronicle_into(rows),
        send=unused,
        tell_proposer=unused,
        name_of=str,
    )


def test_of_many_bad_messages_a_few_are_told_and_the_rest_counted() -> None:
    rows = Rows()

    async def main() -> None:
        driver = driver_into(rows)

        async def send(peer: NodeId, count: int) -> None:
            for _ in range(count):
                driver.deliver(peer, MESSAGE, 10)
            await trio.sleep(0.001)  # virtual time passes

        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            await trio.sleep(0.001)  # virtual time passes
            await send(EVE, 3000)
            assert len(rows.lines) == COMPLAINTS_BURST
            await send(BOB, 1)  # one hides nobody else
            assert rows.lines[-1] == "dropped a message of bob: it is bad"
            await trio.sleep(1 / COMPLAINTS_PER_S + 1)  # virtual time passes
            await send(EVE, 2)
            more = f"{3000 - COMPLAINTS_BURST} more since the last that was told"
            assert rows.lines[COMPLAINTS_BURST + 1 :] == [f"dropped a message of eve: it is bad ({more})"]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_of_messages_that_find_no_room_a_few_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        driver = driver_into(Rows())
        for _ in range(10_000):  # nobody takes any out
            driver.deliver(EVE, MESSAGE, 10)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert len(caplog.messages) == COMPLAINTS_BURST


def test_complaints_are_kept_of_so_many_peers() -> None:
    complaints = Complaints(lambda: 0.0)
    for number in range(PEERS_MAX):
        assert complaints.told(NodeId(str(number)), "bad") == "bad"
    for _ in range(COMPLAINTS_BURST):
        complaints.told(NodeId("1"), "bad")
    assert complaints.told(NodeId("1"), "bad") == ""
    assert complaints.told(NodeId("new"), "bad") == "bad"  # in the place of the first, "0"
    assert complaints.told(NodeId("1"), "bad") == ""


def test_no_line_is_longer_than_a_traceback() -> None:
    rows = Rows()
    chronicle_into(rows).log("WARNING", "fednode.run", "x" * 1_000_000)
    assert [len(line) for line in rows.lines] == [MESSAGE_CHARACTERS_MAX]


def test_rows_that_wait_are_bounded_by_their_texts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.record.record.PENDING_CHARACTERS_MAX", 100_000)

    def line(number: int) -> LogRow:
        return LogRow("me", RUN, "INFO", "x", "y" * 20_000, 1.0, number)

    async def main() -> None:
        record = await open_record(tmp_path / "store.duckdb")
        for _ in range(2):  # what was written makes room again
            record.add(*(line(number) for number in range(100)))
            assert len(record._pending) == 4
            await record.flush()
        await record.close()

    trio.run(main)
    store = Store(tmp_path / "store.duckdb")
    assert store.reader().sql("SELECT count(*) FROM logs", 1)[1] == [(4,)]
    store.close()
