"""Spans: measured where the work is done, told once, and in everybody's record once. docs/protocol.md §8.22."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from hostile_ground import HostileGround, on_hostile_ground
from trio.testing import MockClock

from node.run.chronicle import Numbers
from node.run.spans import UNTOLD_MAX, Spans, told_rows
from node.seams import TrainResult
from protocol.run.checkpoint import SPAN_NAMES, Offer, Report, Span
from protocol.wire import hash_of
from simulations.training.trainer import InProcessSession
from simulations.world.record import SharedStore, SimulatedRecord
from tracker.tables.rows import SpanRow, SystemMetricRow

EPOCH = 1_800_000_000.0


def now() -> float:
    return EPOCH + trio.current_time()


class Kept:
    """Spans of the node "me", and the rows that came of them."""

    def __init__(self) -> None:
        self.rows: list[SpanRow | SystemMetricRow] = []
        self.spans = Spans("run", "me", record=self.rows.append, now=now, sequence=Numbers(now))

    def told(self) -> list[tuple[Any, ...]]:
        """Name, round, beginning in seconds of virtual time, length, peer, bytes."""
        spans = [row for row in self.rows if isinstance(row, SpanRow)]
        return [(s.name, s.round, s.started_at - self.began, s.seconds, s.peer, s.bytes) for s in spans]

    async def __aenter__(self) -> "Kept":
        self.began = now()
        return self

    async def __aexit__(self, *_: object) -> None: ...


def in_virtual_time(test: Callable[[Kept], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Kept() as kept:
            await test(kept)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def passes(seconds: float) -> None:
    await trio.sleep(seconds)  # virtual time passes


def test_work_is_measured_and_what_fails_is_not() -> None:
    async def test(kept: Kept) -> None:
        await passes(1)
        with kept.spans.measuring("fetch", 3) as measured:
            await passes(2)
            measured.peer, measured.bytes = "other", 500
        with pytest.raises(ValueError, match="no"), kept.spans.measuring("fetch", 3):
            raise ValueError("no")
        with kept.spans.measuring("evaluate", 3) as measured:
            measured.is_kept = False
        assert kept.told() == [("fetch", 3, 1, 2, "other", 500)]

    in_virtual_time(test)


@pytest.mark.parametrize(("encode_s", "encoded"), [(0.5, 0.5), (99.0, 4.0), (-1.0, 0.0), (float("nan"), 0.0)])
def test_training_and_coding_are_told_apart(encode_s: float, encoded: float) -> None:
    """The worker's word on itself counts within what is possible."""

    async def test(kept: Kept) -> None:
        await passes(5)
        result = TrainResult(b"", 1, {}, 1, encode_s, {"cpu_percent": 97.0})
        kept.spans.trained(7, 4.0, 1.0, 10, result)
        train, encode = kept.told()
        assert train == ("train", 7, 5 - 1 - 4, 4 - encoded, "", 0)
        assert encode == ("encode", 7, 5 - 1 - encoded, encoded + 1, "", 10)
        (usage,) = (row for row in kept.rows if isinstance(row, SystemMetricRow))
        assert (usage.scope, usage.key, usage.value, usage.unit, usage.round) == (
            "worker",
            "cpu_percent",
            97.0,
            "percent",
            7,
        )

    in_virtual_time(test)


def test_a_wait_lasts_until_there_is_something_to_do() -> None:
    async def test(kept: Kept) -> None:
        kept.spans.waits(1)
        await passes(3)
        kept.spans.waits(1)  # it does already
        kept.spans.busy()
        kept.spans.busy()
        kept.spans.waits(2)
        kept.spans.busy()  # at once: no wait at all
        kept.spans.waits(2)
        await passes(1)
        kept.spans.round_over()
        assert kept.told() == [("wait", 1, 0, 3, "", 0), ("wait", 2, 3, 1, "", 0)]

    in_virtual_time(test)


def test_an_upload_goes_from_its_first_piece_to_its_last() -> None:
    async def test(kept: Kept) -> None:
        for seconds in (1.0, 0.5):
            await passes(2)
            kept.spans.uploaded("aggregator", 4, seconds, 100)
        kept.spans.uploaded("auditor", 4, 0.5, 50)
        assert kept.told() == []
        kept.spans.round_over()
        kept.spans.round_over()
        assert kept.told() == [("upload", 4, 1, 3, "aggregator", 200), ("upload", 4, 3.5, 0.5, "auditor", 50)]

    in_virtual_time(test)


def test_others_are_told_sums_of_what_is_over_and_once() -> None:
    async def test(kept: Kept) -> None:
        for number, size in ((1, 10), (1, 20), (2, 40)):
            with kept.spans.measuring("fetch", number) as measured:
                await passes(1)
                measured.bytes = size
        kept.spans.trained(2, 0.5, 0.0, 9, TrainResult(b"", 1, {}, 1))
        told = kept.spans.to_tell(over=1)
        assert told == (
            Span("fetch", 1, kept.began, 2.0, 30),
            Span("train", 2, kept.began + 2.5, 0.5, 0),
        )
        assert kept.spans.to_tell(over=1) == ()
        assert kept.spans.to_tell(over=2) == (Span("fetch", 2, kept.began + 2, 1.0, 40),)

    in_virtual_time(test)


def test_who_never_tells_keeps_no_more_than_so_many() -> None:
    async def test(kept: Kept) -> None:
        for number in range(UNTOLD_MAX + 50):
            with kept.spans.measuring("fetch", number):
                pass
        told = kept.spans.to_tell(over=10_000)
        assert [span.round for span in told] == list(range(UNTOLD_MAX + 50 - 8, UNTOLD_MAX + 50))
        assert len(kept.rows) == UNTOLD_MAX + 50

    in_virtual_time(test)


def test_what_others_tell_has_a_number_that_follows_from_it() -> None:
    """Whoever records it, and out of whichever note, numbers it alike; no two things have one number."""
    everything = tuple(Span(name, number, 0.0, 1.0, 0) for number in (3, 4) for name in SPAN_NAMES)  # type: ignore[arg-type]
    report = Report(run=hash_of(b"run"), node="n", round=4, checkpoint=hash_of(b"c"), samples=0, metrics={})
    halves = [report.model_copy(update={"spans": part}) for part in (everything[:7], everything[5:])]
    rows = [row for half in halves for row in told_rows("run", half, 1.0)]
    by_number = {row.sequence: (row.round, row.name) for row in rows if isinstance(row, SpanRow)}
    assert sorted(by_number.values()) == sorted((span.round, span.name) for span in everything)
    assert len(rows) == len(everything) + 2
    offer = Offer(
        run=hash_of(b"run"), node="n", round=4, base=hash_of(b"b"), update=hash_of(b"u"), update_bytes=1, samples=1,
        codec="fp32", metrics={}, usage={"cpu_percent": 50.0, "memory_bytes": 1e9, "of_the_future": 1.0},
    )  # fmt: skip
    usage = [row for row in told_rows("run", offer, 9.0) if isinstance(row, SystemMetricRow)]
    assert [(row.key, row.unit, row.value, row.time) for row in usage] == [
        ("cpu_percent", "percent", 50.0, 9.0),
        ("memory_bytes", "bytes", 1e9, 9.0),
        ("of_the_future", "count", 1.0, 9.0),
    ]
    assert len({row.sequence for row in usage}) == 3


# --- in a run ----------------------------------------------------------------------------------------------------
class OwnRecords(HostileGround):
    """Every node has a record of its own, and keeps what it hears of others, as real nodes do."""

    stores: ClassVar[list[SharedStore]] = []

    @property
    def _shared(self) -> SharedStore:
        self.stores.append(SharedStore())
        return self.stores[-1]

    @_shared.setter
    def _shared(self, given: SharedStore) -> None: ...


@pytest.fixture
def own_records(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("hostile_ground.HostileGround", OwnRecords)
    monkeypatch.setattr(SimulatedRecord, "tells_of_others", True)
    train = InProcessSession.train

    async def told(self: InProcessSession, *arguments: Any) -> TrainResult:
        result = await train(self, *arguments)
        return TrainResult(result.update, result.samples, result.metrics, result.steps, 0.01, {"cpu_percent": 80.0})

    monkeypatch.setattr(InProcessSession, "train", told)
    yield
    while OwnRecords.stores:
        OwnRecords.stores.pop().close()


Told = list[dict[str, Any]]


def played(folder: Path) -> tuple[dict[str, Told], dict[str, Told], list[str]]:
    """The spans, and what workers took, of a run of three nodes and three rounds: in each node's record."""
    spans: dict[str, Told] = {}
    system: dict[str, Told] = {}
    aggregators: list[str] = []

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=3, nodes=3)
        await ground.ended(run, lives)
        for life in lives:
            spans[life.node.identity.node_id] = await life.node.service.system.spans(run, {})
            system[life.node.identity.node_id] = await life.node.service.system.metrics(run, {"scope": "worker"})
        aggregators.extend(row["aggregator"] for row in await lives[0].node.service.rounds(run))

    folder.mkdir()
    on_hostile_ground(folder, test)
    return spans, system, aggregators


@pytest.mark.usefixtures("own_records")
def test_everybodys_spans_are_in_every_record_once(tmp_path: Path) -> None:
    spans, system, aggregators = played(tmp_path / "a")
    assert len(spans) == 3
    for me, rows in spans.items():
        others = [row for row in rows if row["node_id"] != me]
        assert {row["source_node"] for row in others} == spans.keys() - {me}
        assert not [place for place, count in Counter(map(_place, others)).items() if count > 1]
        assert {row["peer"] for row in others} == {""}
        by_round = {(row["node_id"], row["round"]): set[str]() for row in rows}
        for row in rows:
            by_round[row["node_id"], row["round"]].add(row["name"])
        for node in spans:
            for number in (1, 2, 3):
                assert by_round[node, number] >= {"train", "encode", "evaluate"}, (node, number)
                is_aggregator = aggregators[number - 1] == node
                assert ("aggregate" in by_round[node, number]) is is_aggregator
                assert "fetch" in by_round[node, number]
                assert ("upload" in by_round[node, number]) is not is_aggregator
        assert {row["name"] for row in rows} >= {"wait"}
        assert {(row["node_id"], row["round"]) for row in system[me]} == {(n, r) for n in spans for r in (1, 2, 3)}
        assert {(row["key"], row["value"]) for row in system[me]} == {("cpu_percent", 80.0)}


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["node_id"], row["round"], row["name"]


@pytest.mark.usefixtures("own_records")
def test_own_spans_are_whole_and_others_are_their_sums(tmp_path: Path) -> None:
    spans, _, _ = played(tmp_path / "a")
    own: dict[tuple[Any, ...], float] = {}
    for me, rows in spans.items():
        for row in rows:
            if row["node_id"] == me:
                own[_place(row)] = own.get(_place(row), 0.0) + row["seconds"]
                assert row["peer"] or row["name"] not in ("fetch", "upload")
    for me, rows in spans.items():
        for row in rows:
            if row["node_id"] != me and row["name"] in ("train", "encode", "aggregate", "evaluate"):
                assert row["seconds"] == pytest.approx(own[_place(row)])


@pytest.mark.usefixtures("own_records")
def test_the_same_run_spends_its_time_alike(tmp_path: Path) -> None:
    assert played(tmp_path / "a") == played(tmp_path / "b")
