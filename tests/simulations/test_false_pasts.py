"""What a liar does to the others' past: it may keep back what it alone has, and neither spoil nor hide anything else.

docs/protocol.md §9.3, §9.5 to §9.8.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
import trio
from test_missed_rounds import Ground, answer_by, asked_first, go_away, play, retelling, seconds_of

from node.run.histories import ANSWER_BYTES_MAX, HISTORY_QUESTION
from protocol.keys import Hash
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.checkpoint import Report, checkpoint_name, open_checkpoint, sign_note
from protocol.run.history import HistoryAnswer, HistoryEntry, HistoryRequest
from protocol.run.journal import ReportsRecord
from protocol.run.ledger import Ledger
from protocol.run.messages import Reports
from protocol.wire import pack, unpack
from simulations.world.deterministic import until

MANY = 300  # reports of one node on one round, where one is believed


def signed(ground: Ground, number: int, round_number: int, name: Hash, count: int) -> tuple[bytes, ...]:
    """So many reports of a node on one checkpoint, no two alike."""
    node = ground.nodes[number]
    return tuple(
        sign_note(
            node.keys.key,
            Report(run=ground.run, node=node.node_id, round=round_number, checkpoint=name, samples=samples, metrics={}),
        )
        for samples in range(1, count + 1)
    )


def ledger_of(ground: Ground, number: int) -> Ledger:
    known = ground.known(number)
    assert known is not None
    assert known.ledger is not None
    return known.ledger


async def told_by(ground: Ground, number: int, asker: int) -> list[HistoryEntry]:
    """What a node answers to the question for its run's whole history."""
    request = pack(HistoryRequest(run=ground.run, newest=checkpoint_name(ledger_of(ground, number).newest)))
    answer = ground.node(asker).questions.ask(
        ground.nodes[number].node_id, HISTORY_QUESTION, request, bytes_max=ANSWER_BYTES_MAX
    )
    async with aclosing(answer) as frames:
        return [entry async for frame in frames for entry in unpack(HistoryAnswer, frame, FRAME_BYTES_MAX).entries]


def rounds_measured(figures: set[tuple[Any, ...]]) -> set[tuple[str, int]]:
    """Nodes and the rounds of which they measured the model."""
    return {(key[0], key[4]) for key in figures if key[1] == "global"}


def test_thousands_of_last_reports_of_one_node_do_not_keep_the_past_from_being_told() -> None:
    """§9.3: nor where they are in the journal already, from before they were refused."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=5)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        ledger = ledger_of(ground, 0)
        name = checkpoint_name(ledger.newest)
        ledger.last_reports = None
        ledger.keep_reports(signed(ground, 1, 5, name, 4096))
        assert ledger.last_reports == {(ground.nodes[1].node_id, 5)}
        poison = ReportsRecord(reports=signed(ground, 1, 5, name, 4096))
        await ground.node(0).disk.append(f"run-{ground.run}", pack(poison))
        [newest, *_] = await told_by(ground, 0, asker=2)
        assert 4 <= len(newest.reports) <= 8
        ground.nodes[0].kill()
        await nursery.start(ground.nodes[0].live)
        await until(lambda: ground.has_ended(0))
        await trio.sleep(60.0)  # virtual time passes
        assert len(await told_by(ground, 0, asker=2)) == 5

    play(4, scenario)


def test_who_has_no_part_in_a_run_closes_nothing() -> None:
    """§8.9: nor does a node of the run that does not aggregate."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=5, members=4)

        async def shout(number: int) -> None:
            while not all(ground.has_ended(n) for n in range(4)):
                await trio.sleep(0.01)  # virtual time passes
                for other in range(4):
                    aggregator = ground.known(other).driver.machine.election.aggregator  # type: ignore[union-attr]
                    if other != number and aggregator != ground.nodes[number].node_id:
                        message = Reports(run=ground.run, reports=())
                        ground.node(number).runs.send(ground.nodes[other].node_id, message)

        await until(lambda: ground.round(1) >= 3)
        nursery.start_soon(shout, 4)
        nursery.start_soon(shout, 1)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        await trio.sleep(60.0)  # virtual time passes
        for number in range(4):
            last = {node for node, at in rounds_measured(await ground.figures(number)) if at == 5}
            assert last == {ground.nodes[n].node_id for n in range(4)}

    play(5, scenario)


def test_reports_that_one_withholds_come_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """§9.7: all of them or some, and its own beside many times."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        liar = ground.nodes[1]

        def poor(entry: HistoryEntry) -> HistoryEntry:
            body = open_checkpoint(entry.checkpoint)
            return entry.model_copy(update={"reports": signed(ground, 1, body.body.round, body.body_hash, MANY)})

        await ground.propose(rounds=10)
        asked_first(ground, monkeypatch, 1)
        answer_by(ground, 1, retelling(ground, 1, poor))
        await go_away(ground, nursery, after=2, until_round=7)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        await trio.sleep(60.0)  # virtual time passes
        theirs, mine = rounds_measured(await ground.figures(0)), rounds_measured(await ground.figures(3))
        others = {(node, at) for node, at in theirs if node not in (liar.node_id, ground.nodes[3].node_id)}
        assert others <= mine
        past = ground.known(3).history.past  # type: ignore[union-attr]
        for name in past.places:
            assert len((await past.entry(name)).reports) <= 12, "one of each node and round"

    play(4, scenario)


def test_false_times_stay_between_the_rounds_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """§9.5."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        def long_ago(entry: HistoryEntry) -> HistoryEntry:
            return entry.model_copy(update={"committed_at": 1.0, "seconds": 2e11})

        def some_day(entry: HistoryEntry) -> HistoryEntry:
            return entry.model_copy(update={"committed_at": 2e11, "seconds": 2e11})

        await ground.propose(rounds=14)
        asked_first(ground, monkeypatch, 1)
        answer_by(ground, 1, retelling(ground, 1, long_ago))
        answer_by(ground, 2, retelling(ground, 2, some_day))
        answer_by(ground, 0, retelling(ground, 0, some_day))
        await go_away(ground, nursery, after=2, until_round=7)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        await ground.whole(3, like=0)
        mine, theirs = await ground.rounds(3), await ground.rounds(0)
        times = [seconds_of(mine[number]) for number in sorted(mine)]
        assert times == sorted(times)
        assert times[0] > seconds_of(theirs[1]) - 60.0, "not before there was a run"
        assert times[-1] < seconds_of(theirs[14]) + 60.0
        away_s = seconds_of(theirs[9]) - seconds_of(theirs[1])
        assert all(row["seconds"] <= away_s for row in mine.values())

    play(4, scenario)


def test_a_history_that_drips_is_had_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """§9.8."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        async def drip(peer: Any, request: bytes) -> AsyncGenerator[bytes, None]:
            async with aclosing(ground.node(1).runs.histories.answer(peer, request)) as frames:
                async for frame in frames:
                    for entry in unpack(HistoryAnswer, frame, FRAME_BYTES_MAX).entries:
                        await trio.sleep(19.0)  # virtual time passes
                        yield pack(HistoryAnswer(entries=(entry,)))

        await ground.propose(rounds=40)
        asked_first(ground, monkeypatch, 1)
        answer_by(ground, 1, drip)
        await go_away(ground, nursery, after=2, until_round=35)
        began = trio.current_time()
        await ground.whole(3, like=0)
        assert trio.current_time() - began < 180.0

    play(4, scenario)


def test_the_times_of_an_answer_are_read_for_its_parts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short question does not have a long record read."""

    async def scenario(ground: Ground, nursery: trio.Nursery) -> None:
        await ground.propose(rounds=12)
        await until(lambda: all(ground.has_ended(n) for n in range(4)))
        assert len(await ground.rounds(0)) == 12
        monkeypatch.setattr("node.run.histories.PART_BYTES", 1)
        record = ground.node(0).record
        read: list[int] = []

        async def query(name: str, **parameters: Any) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = await asked(name, **parameters)
            read.append(len(rows))
            return rows

        asked = record.query
        monkeypatch.setattr(record, "query", query)
        entries = await told_by(ground, 0, asker=2)
        assert len(entries) == 12
        assert all(entry.committed_at for entry in entries)
        assert read == [1] * 12

    play(4, scenario)
