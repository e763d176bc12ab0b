"""How everybody's part in a run ends, as every node's record tells it: after a stop, a resumption, a crash."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from node.run.chronicle import Chronicle, Numbers
from protocol.keys import NodeId, RunId
from protocol.run.events import Ended
from simulations.world.record import SharedStore, SimulatedRecord
from tracker.tables.rows import LogRow, Row, StatusRow

ALL_FINISHED = ["FINISHED"] * 3


class OwnStore(SharedStore):
    """One node's own store, which keeps how the others stand. What comes while it `loses` is gone, as at a crash."""

    loses = False

    def take(self, row: Row) -> None:
        if self.loses:
            return
        if isinstance(row, StatusRow | LogRow):
            self._rows.append(row)
        else:
            super().take(row)


class OwnRecord(SimulatedRecord):
    tells_of_others = True


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, OwnStore]]:
    """Every node of the ground gets a store of its own, which outlives it."""
    found: dict[str, OwnStore] = {}

    def own(node_id: str, shared: SharedStore) -> OwnRecord:
        return OwnRecord(node_id, found.setdefault(node_id, OwnStore(tmp_path / f"{node_id}.duckdb")))

    monkeypatch.setattr("hostile_ground.SimulatedRecord", own)
    yield found
    for store in found.values():
        store.close()


async def begun(ground: HostileGround, lives: list[Life]) -> RunId:
    """A run that is under way on all."""
    run = await ground.propose(lives[0], rounds=400, nodes=3)
    await ground.settled(lambda: all(has_committed(life, run, 2) for life in lives), "two rounds")
    return run


def has_committed(life: Life, run: RunId, rounds: int) -> bool:
    known = life.node.runs.known.get(run)
    return known is not None and known.ledger is not None and known.ledger.committed_round >= rounds


async def states(life: Life, run: RunId) -> list[str]:
    await trio.sleep(2)  # virtual time: the record is written
    return [entry["state"] for entry in (await life.node.service.run(run))["participants"]]


async def ends_told(life: Life, run: RunId) -> list[str]:
    await trio.sleep(2)  # virtual time: the record is written
    rows = await life.node.record.query("logs", run_id=run, node=life.node.identity.node_id)
    return [row["message"] for row in rows if row["message"].startswith("the run is ")]


def test_all_have_finished_with_a_run_that_is_resumed_and_stopped_at_once(
    tmp_path: Path, stores: dict[str, OwnStore]
) -> None:
    """Whoever aggregates then has told the same of the others at the first end."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await begun(ground, lives)
        for ends in range(1, 4):
            await lives[0].node.service.stop_run(run, "the night is over")
            await ground.ended(run, lives)
            for life in lives:
                assert await states(life, run) == ALL_FINISHED
                assert await ends_told(life, run) == ["the run is stopped: the night is over"] * ends
            before = (await lives[0].node.service.run(run))["round"]
            await lives[0].node.service.resume_run(run)
            await ground.settled(lambda: not any(life.node.runs.known[run].is_over for life in lives), "going on")
            if ends == 2:
                await ground.settled(partial(has_committed, lives[0], run, before + 3), "more rounds")
                for life in lives:
                    assert "FINISHED" not in await states(life, run)

    on_hostile_ground(tmp_path, test)


def test_who_crashes_before_its_record_has_the_end_mends_it_when_it_is_back(
    tmp_path: Path, stores: dict[str, OwnStore]
) -> None:
    """Restarted in the middle of the run too; what it says of the end it says once."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await begun(ground, lives)
        hit = lives[2]
        store = stores[hit.node.identity.node_id]
        await ground.restart(hit)
        await ground.settled(lambda: has_committed(hit, run, 4), "more rounds")
        await hit.node.record.flush()
        store.loses = True
        await lives[0].node.service.stop_run(run, "enough")
        await ground.ended(run, lives)
        await trio.sleep(60)  # virtual time passes
        hit.scope.cancel()
        await hit.ended.wait()
        store.loses = False
        for _ in range(3):
            await ground.restart(hit)
            await ground.settled(lambda: hit.node.runs.known[run].is_over, "the end")
            assert await states(hit, run) == ALL_FINISHED
            assert (await hit.node.service.run(run))["state"] == "STOPPED"
            assert await ends_told(hit, run) == ["the run is stopped: enough"]

    on_hostile_ground(tmp_path, test)


def test_a_run_that_goes_on_and_was_told_to_stop_says_so(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await begun(ground, lives)
        for life in lives[1:]:
            life.scope.cancel()
            await life.ended.wait()
        seen = await lives[0].node.service.stop_run(run, "the night is over")
        told = "told to stop by node-0: the night is over; it ends with the next checkpoint"
        assert (seen["state"], seen["note"].split("; no aggregator")[0]) == ("RUNNING", told)
        await trio.sleep(60)  # virtual time passes
        assert (await lives[0].node.service.run(run))["note"].startswith(f"{told}; no aggregator is heard: ")
        for life in lives[1:]:
            await ground.restart(life)
        await ground.ended(run, lives)
        for life in lives:
            seen = await life.node.service.run(run)
            assert (seen["state"], seen["note"]) == ("STOPPED", "")

    on_hostile_ground(tmp_path, test)


class Rows:
    """What a chronicle records of states."""

    def __init__(self, *, tells_of_others: bool) -> None:
        self.tells_of_others = tells_of_others
        self.states: dict[str, str] = {}

    def add(self, *rows: StatusRow) -> None:
        self.states |= {row.node_id: row.state for row in rows}


@pytest.mark.parametrize("tells_of_others", [True, False])
def test_the_end_is_the_end_of_everybodys_part(tells_of_others: bool) -> None:
    """What ended before stays as it was; who was put out at work was lost to the run."""
    before = {"d": "DECLINED", "f": "FAILED", "l": "LOST", "me": "TRAINING", "out": "WAITING", "r": "READY"}
    before |= {"asked": "READY", "t": "TRAINING", "u": "UPLOADING", "w": "WAITING"}
    after = before | dict.fromkeys(("me", "new", "r", "t", "u", "w"), "FINISHED") | {"out": "LOST"}
    rows = Rows(tells_of_others=tells_of_others)
    chronicle = Chronicle(
        RunId("ab" * 32),
        NodeId("me"),
        rows,  # type: ignore[arg-type]
        now=lambda: 1.0,
        sequence=Numbers(lambda: 1.0),
        changed=lambda *_: None,
    )
    for node, state in before.items():
        chronicle.state(node, state, "as it was told")
    end = Ended("stopped", "enough", ("d", "f", "l", "me", "new", "r", "t", "u", "w"))
    assert [chronicle.ended(end, 7), chronicle.ended(end, 7)] == [True, False]
    assert rows.states == (after if tells_of_others else before | {"me": "FINISHED"}) | {"": "STOPPED"}
