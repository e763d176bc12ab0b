"""Runs alike: one task, seed and data make the same updates in each of them, and none takes another's away."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground

from node.run.round_blobs import RoundBlobs
from node.run.task import RunTask
from protocol.keys import BlobId, RunId
from protocol.run.events import Train, Trained
from simulations.world.disk import SimulatedDisk

RUNS = 3
KRUM = 'rule = "krum"'


async def _propose(ground: HostileGround, life: Life, name: str, *, rounds: int = 3, rule: str = KRUM) -> RunId:
    text = CONFIGURATION.format(rounds=rounds, nodes=3, name=name, join_deadline_s=600.0, audit="none")
    text = text.replace("[aggregation]", f"[aggregation]\n{rule}")
    return RunId((await life.node.service.start_run(text, None, None, {}))["run_id"])


def test_a_blob_stays_until_its_last_claim_is_given_up() -> None:
    async def test() -> None:
        disk = SimulatedDisk()
        of_rounds = RoundBlobs(disk)
        update = await disk.put_blob(b"of both")
        await disk.delete_blob(update)
        assert not await of_rounds.claim("a", update, 1)
        await disk.put_blob(b"of both")
        assert await of_rounds.claim("b", update, 4)
        await of_rounds.give_up("a", until=1)
        assert await disk.has_blob(update)
        await of_rounds.claim("b", update, 5)  # two rounds of one run gave the same
        await of_rounds.give_up("b", until=4)
        assert await disk.has_blob(update)
        await of_rounds.give_up("b", until=5)
        assert not await disk.has_blob(update)

    trio.run(test)


def test_what_was_there_or_is_held_stays_without_a_claim() -> None:
    async def test() -> None:
        disk, held = SimulatedDisk(), set[str]()
        of_rounds = RoundBlobs(disk, lambda blob: blob in held)
        before = await disk.put_blob(b"a model with a name")
        assert await of_rounds.claim("a", before, 1)
        mine = BlobId("ab" * 32)
        held.add(mine)
        assert not await of_rounds.claim("a", mine, 1)
        deleted: list[str] = []
        disk.delete_blob = deleted.append  # type: ignore[method-assign, assignment]
        await of_rounds.give_up("a")
        assert (deleted, await disk.has_blob(before)) == ([], True)

    trio.run(test)


def test_an_update_that_a_run_offers_outlives_the_round_of_another_run(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        runs = [await _propose(ground, lives[0], f"run-{number}") for number in range(2)]
        ended = [(await ground.ended(run, lives))[1].driver for run in runs]
        one, other = [driver for driver in ended if driver is not None]
        disk, last = one._disk, one.machine.ledger.newest
        update = await one._data.blobs.put_for_a_round(b"of both", last.round)
        assert await other._data.blobs.put_for_a_round(b"of both", last.round + 1) == update
        await one._data.forget_before(last, None)
        assert await disk.has_blob(update), "the other run offers it still"
        await other._data.forget_before(last.model_copy(update={"round": last.round + 1}), None)
        assert not await disk.has_blob(update)

    on_hostile_ground(tmp_path, test)


def test_runs_alike_end_all_the_same(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        runs = [await _propose(ground, lives[0], f"run-{number}") for number in range(RUNS)]
        for run in runs:
            for known in await ground.ended(run, lives):
                assert known.driver is not None
                ledger = known.driver.machine.ledger
                assert ledger.newest.outcome == "finished"
                for blob in ledger.blobs():
                    assert await known.driver._disk.has_blob(blob)

    on_hostile_ground(tmp_path, test)


def test_an_update_that_is_gone_is_learned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the aggregator asks for ever, and the round never ends."""
    lost: list[str] = []

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        real = RunTask.train

        async def train(self: RunTask, wanted: Train) -> Trained | None:
            trained = await real(self, wanted)
            if trained is not None and wanted.round == 2 and trained.offer.node not in lost:
                lost.append(trained.offer.node)
                await self._disk.delete_blob(BlobId(trained.offer.update))
            return trained

        monkeypatch.setattr(RunTask, "train", train)
        run = await _propose(ground, lives[0], "run", rule="")
        began = trio.current_time()
        ended: list[Any] = await ground.ended(run, lives)
        assert len(lost) == 3, "the aggregator loses its own too"
        assert trio.current_time() - began < 60
        for known in ended:
            listed = known.driver.machine.ledger.newest.updates
            assert [entry.refused for entry in listed] == [""] * 3

    on_hostile_ground(tmp_path, test)
