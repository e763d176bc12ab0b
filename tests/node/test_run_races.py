"""What a group's log and the owner say of a run while a node is still taking it up."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from node.run.driver import RunDriver
from node.run.failures import RunFailures
from node.run.known_run import TAKE_UP_AGAIN_S, KnownRun
from protocol.keys import RunId
from simulations.world.record import SimulatedRecord


def test_a_stop_that_comes_while_a_node_takes_its_runs_up_again_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.14: the log may grow while the record is asked how far a run had come, of that run and of the next one."""
    asked, may_answer = trio.Event(), trio.Event()
    query = SimulatedRecord.query

    async def test(ground: HostileGround) -> None:
        first, late = await ground.group(2)
        runs = [await ground.propose(first, rounds=1000, nodes=2, name=name) for name in ("one", "another")]
        await ground.settled(lambda: all(run in late.node.runs.known for run in runs), "the proposals")
        before = [late.node.runs.known[run] for run in runs]
        await ground.settled(
            lambda: all(known.ledger and known.ledger.committed_round > 0 for known in before), "rounds"
        )

        async def slow_query(record: SimulatedRecord, name: str, **parameters: Any) -> list[dict[str, Any]]:
            if record is late.node.record and name == "run" and not asked.is_set():
                asked.set()
                await may_answer.wait()
            return await query(record, name, **parameters)

        monkeypatch.setattr(SimulatedRecord, "query", slow_query)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ground.restart, late)
            await asked.wait()
            for run in runs:
                await first.node.service.stop_run(run, "enough")
            log = late.place.state
            await ground.settled(lambda: all(log().runs[run].stop is not None for run in runs), "the stops")
            await trio.sleep(10)  # virtual time passes
            may_answer.set()
        for run in runs:
            await ground.ended(run, [first, late])
            known = late.node.runs.known[run]
            assert known.entry.stop is not None
            assert known.driver is not None
            assert known.driver.machine.context.directions.stop == "enough"
            seen = await late.node.service.run(run)
            assert (seen["state"], seen["reason"]) == ("STOPPED", "enough")

    on_hostile_ground(tmp_path, test)


def test_who_declines_while_its_node_takes_the_run_up_takes_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner's word counts from the moment that it is given; and what was said before of a failure is no matter."""
    asked, may_answer = trio.Event(), trio.Event()
    take_up = RunFailures.take_up

    async def test(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)

        async def slow_take_up(failures: RunFailures, known: KnownRun) -> None:
            if failures is third.node.runs.failures:
                asked.set()
                await may_answer.wait()
            await take_up(failures, known)

        monkeypatch.setattr(RunFailures, "take_up", slow_take_up)
        run = await ground.propose(first, rounds=3, nodes=2)
        await asked.wait()
        await third.node.service.decline(run, "not with this data")
        may_answer.set()
        await ground.ended(run, [first, second])
        known = third.node.runs.known[run]
        assert known.driver is None
        assert known.watch is not None
        await ground.settled(lambda: known.is_over, "the news of its end")
        assert known.decision.decision == "declined"

    on_hostile_ground(tmp_path, test)


def test_a_run_that_was_accepted_again_is_not_taken_up_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the disk has said no the run is taken up again in a while: not, where its owner was quicker."""
    made: list[RunDriver] = []
    drive = RunDriver.run

    async def counted(driver: RunDriver) -> None:
        made.append(driver)
        await drive(driver)

    async def test(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        run = await ground.propose(first, rounds=1000, nodes=2)
        await ground.settled(lambda: run in third.node.runs.known, "the proposal")
        known = third.node.runs.known[run]
        await ground.settled(lambda: known.ledger is not None and known.ledger.committed_round > 0, "a round")
        third.disk.is_full = True
        broken = known.driver
        await ground.settled(lambda: state_of(third, run) == "FAILED", "the full disk")
        third.disk.is_full = False
        monkeypatch.setattr(RunDriver, "run", counted)
        await third.node.service.decline(run, "let me look")
        await third.node.service.accept(run, None)
        again = known.driver
        assert again is not None
        assert again is not broken
        await trio.sleep(2 * TAKE_UP_AGAIN_S)  # virtual time passes
        assert known.driver is again
        assert made == [again]
        await first.node.service.stop_run(run, "enough")
        await ground.ended(run, [first, second, third])

    def state_of(life: Life, run: RunId) -> str:
        states = life.node.runs.known[run].chronicle._states
        return states.get(life.node.identity.node_id, ("", ""))[0]

    on_hostile_ground(tmp_path, test)
