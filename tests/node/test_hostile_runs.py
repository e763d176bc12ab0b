"""What members, and careless owners, can do to a run must end no node, and cost no blob that is not theirs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import HostileGround, alive, on_hostile_ground

from node.network.bulk.bulk import Bulk
from node.run.data import RunData
from node.run.driver import INBOX_EVENTS_MAX
from node.run.task import RunTask
from node.seams import InitialModel, TrainerFailed
from protocol.keys import BlobId
from protocol.run.directions import Directions
from protocol.run.events import Combined, Trained
from protocol.run.messages import AskCommit
from protocol.run.reign import Reign
from simulations.training.trainer import InProcessSession


def test_a_run_that_was_stopped_while_it_gathered_stays_stopped(tmp_path: Path) -> None:
    """Its join deadline passes later, and there is nothing left to stop."""

    async def main(ground: HostileGround) -> None:
        (owner,) = await ground.group(1)
        run = await ground.propose(owner, nodes=2, join_deadline_s=60)
        await owner.node.service.stop_run(run, "not now")
        await trio.sleep(600)  # virtual time passes
        alive(owner)
        assert (await owner.node.service.run(run))["state"] == "STOPPED"

    on_hostile_ground(tmp_path, main)


def test_a_task_that_fails_in_many_lines_ends_the_run_and_not_the_node(tmp_path: Path, monkeypatch: Any) -> None:
    """The reason goes into the group's log, where a line is a line."""

    async def fail(self: InProcessSession) -> None:
        raise TrainerFailed("model() failed:\n\x1b[31mRuntimeError: sizes\n\tdo not fit", remedy="mend it")

    monkeypatch.setattr(InProcessSession, "initial_model", fail)

    async def main(ground: HostileGround) -> None:
        (owner,) = await ground.group(1)
        run = await ground.propose(owner, nodes=1)
        await trio.sleep(60)  # virtual time passes
        alive(owner)
        seen = await owner.node.service.run(run)
        assert "sizes" in seen["reason"]
        assert "\x1b" not in seen["reason"]

    on_hostile_ground(tmp_path, main)


def test_a_reason_of_several_lines_stops_a_run(tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        (owner,) = await ground.group(1)
        run = await ground.propose(owner, nodes=2)
        await owner.node.service.stop_run(run, "first line\nsecond \x07line")
        assert (await owner.node.service.run(run))["reason"] == "first line second  line"

    on_hostile_ground(tmp_path, main)


def test_a_run_that_lost_its_disk_holds_up_nobody(tmp_path: Path) -> None:
    """Its part has failed on that node, in words; messages go nowhere, and the group's log is still listened to. When
    the disk takes something again, so does the node."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        run = await ground.propose(first, nodes=3, rounds=200)

        def has_begun() -> bool:
            known = third.node.runs.known.get(run)
            return known is not None and known.driver is not None and known.driver.machine.ledger.committed_round > 1

        await ground.settled(has_begun, "round 2")
        third.disk.is_full = True
        await trio.sleep(20)  # virtual time passes
        states = {entry["node_id"]: entry for entry in (await third.node.service.run(run))["participants"]}
        assert "No space left" in states[third.node.identity.node_id]["reason"]
        driver = third.node.runs.known[run].driver
        for _ in range(INBOX_EVENTS_MAX + 1):
            driver.deliver(first.node.identity.node_id, AskCommit(run=run, have_round=0), 100)
        with trio.fail_after(10):
            await driver.direct(Directions(stop="as the log may ask at any time"))
        third.disk.is_full = False

        def is_back() -> bool:
            known = third.node.runs.known[run]
            return known.driver not in (None, driver) and known.driver.machine.participation.letter in ("U", "W")

        await ground.settled(is_back, "the run is taken up again")
        await first.node.service.stop_run(run, "enough")
        await ground.ended(run, [first, second, third])
        await third.node.service.create_group("still listening")
        another = await ground.propose(first, nodes=3, rounds=1, name="another")
        await ground.ended(another, [first, second, third])
        alive(first, second, third)

    on_hostile_ground(tmp_path, main)


def test_one_node_drives_a_run_once(tmp_path: Path) -> None:
    """Two operations of a run may be told of at once: two machines on one journal would vote twice in a term (§7.3)."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        await second.node.service.set_policy(["mine"])
        run = await ground.propose(first, nodes=1, rounds=50)
        await ground.settled(lambda: run in second.node.runs.known, "the proposal is known")
        await ground.settled(lambda: second.node.runs.known[run].entry.start is not None, "the start is known")
        honest, opened = second.disk.records, []

        async def slow(journal: str) -> list[bytes]:
            opened.append(journal)
            await trio.sleep(5)  # virtual time passes
            return await honest(journal)

        second.disk.records = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.node.service.accept, run, None)
            await trio.sleep(1)  # virtual time passes
            await first.node.service.stop_run(run, "enough")
        await ground.ended(run, [first])
        assert len(opened) == 1

    on_hostile_ground(tmp_path, main)


def test_an_update_that_names_somebodys_blob_does_not_have_it_deleted(tmp_path: Path, monkeypatch: Any) -> None:
    """A round's updates are deleted when it is committed: but not the model, nor the schema, that somebody calls so."""
    honest = RunTask.train

    async def main(ground: HostileGround) -> None:
        first, second, hostile = await ground.group(3)
        names = iter(("tensor_schema", "model", ""))
        finished = ""

        async def train(self: RunTask, wanted: Any) -> Trained | None:
            trained = await honest(self, wanted)
            if trained is None or trained.offer.node != hostile.node.identity.node_id:
                return trained
            name = next(names)
            return Trained(
                trained.offer.model_copy(update={"update": getattr(wanted.base, name) if name else finished})
            )

        monkeypatch.setattr(RunTask, "train", train)
        for rounds in (2, 1):
            run = await ground.propose(first, nodes=3, rounds=rounds, name=f"of {rounds}")
            (known, *_) = await ground.ended(run, [first, second, hostile])
            ledger = known.driver.machine.ledger
            wanted = {ledger.zero.checkpoint.model, ledger.newest.tensor_schema, ledger.newest.model, finished} - {""}
            for life in (first, second):
                for blob in wanted:
                    assert await life.disk.has_blob(BlobId(blob)), "it was deleted because an update was called so"
            finished = ledger.newest.model

    on_hostile_ground(tmp_path, main)


def test_an_update_that_says_it_is_huge_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: Any) -> None:
    honest = RunTask.train
    fetched: list[str] = []
    fetch = Bulk.fetch

    async def noted(self: Bulk, blob: BlobId, sources: Any, bytes_max: int, *more: Any) -> Any:
        fetched.append(blob)
        return await fetch(self, blob, sources, bytes_max, *more)

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        huge = await lives[2].disk.put_blob(bytes(8 * 1024 * 1024))

        async def train(self: RunTask, wanted: Any) -> Trained | None:
            trained = await honest(self, wanted)
            if trained is None or trained.offer.node != lives[2].node.identity.node_id:
                return trained
            return Trained(trained.offer.model_copy(update={"update": huge, "update_bytes": 2**36}))

        monkeypatch.setattr(RunTask, "train", train)
        monkeypatch.setattr(Bulk, "fetch", noted)
        run = await ground.propose(lives[0], nodes=3, rounds=1)
        (known, *_) = await ground.ended(run, lives[:2])
        newest = known.driver.machine.ledger.newest
        assert [entry.refused for entry in newest.updates if entry.refused] == ["update-length"]
        assert huge not in fetched

    on_hostile_ground(tmp_path, main)


GARBAGE = b"no model at all"
NOT_A_NUMBER = b"\0\0\xc0\x7f"


@pytest.mark.parametrize("lie", ["model", "difference", "nothing", "state", "schema"])
def test_a_checkpoint_that_lies_about_its_blobs_is_not_acknowledged(tmp_path: Path, monkeypatch: Any, lie: str) -> None:
    """SECURITY.md: voters check that a checkpoint's model is its base plus its difference. What is not is never
    committed, costs the voters nothing but a look, and the run can be stopped and another be run."""
    honest = RunData.combine
    lying: list[bool] = [True]

    async def combine(self: RunData, wanted: Any) -> Combined:
        made = await honest(self, wanted)
        if not lying:
            return made
        disk = self._disk
        size = (await disk.open_blob(BlobId(made.model))).size
        nan = await disk.put_blob(NOT_A_NUMBER * (size // 4))
        match lie:
            case "model":
                return replace(made, model=await disk.put_blob(GARBAGE))
            case "difference":
                return replace(made, model=nan, difference=nan)
            case "nothing":
                return replace(made, model=nan, difference="")
            case "state":
                return replace(made, server_state=nan)
            case _:
                return replace(made, model=made.model)

    monkeypatch.setattr(RunData, "combine", combine)

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        if lie == "schema":
            honest_make = Reign._make

            def make(self: Reign, checkpoint: Any) -> None:
                honest_make(
                    self, checkpoint.model_copy(update={"tensor_schema": checkpoint.model}) if lying else checkpoint
                )

            monkeypatch.setattr(Reign, "_make", make)
        run = await ground.propose(lives[0], nodes=3, rounds=1)
        await trio.sleep(300)  # virtual time passes
        for life in lives:
            ledger = life.node.runs.known[run].driver.machine.ledger
            assert ledger.committed_round == 0, "a lie was committed"
        alive(*lives)
        lying.clear()
        another = await ground.propose(lives[0], nodes=3, rounds=1, name="another")
        await ground.ended(another, lives)

    on_hostile_ground(tmp_path, main)


@pytest.mark.parametrize("lie", ["schema", "length", "value"])
def test_a_start_whose_model_is_none_goes_no_further(tmp_path: Path, monkeypatch: Any, lie: str) -> None:
    """The proposer's blobs are looked at like any other's: nobody trains from a NaN, or allocates what a lie says."""
    honest = InProcessSession.initial_model

    async def garbage(self: InProcessSession) -> InitialModel:
        made = await honest(self)
        match lie:
            case "schema":
                return InitialModel(schema=b"fednode schema 1\xff\xff\xff\xff", model=made.model)
            case "length":
                return InitialModel(schema=made.schema, model=GARBAGE)
            case _:
                return InitialModel(schema=made.schema, model=NOT_A_NUMBER * (len(made.model) // 4))

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(2)
        with monkeypatch.context() as patch:
            patch.setattr(InProcessSession, "initial_model", garbage)
            run = await ground.propose(lives[0], nodes=2, rounds=1)
            await trio.sleep(120)  # virtual time passes
        alive(*lives)
        for life in lives:
            assert life.node.runs.known[run].driver.machine.ledger.committed_round == -1
        await lives[0].node.service.stop_run(run, "enough")
        another = await ground.propose(lives[0], nodes=2, rounds=1, name="another")
        await ground.ended(another, lives)

    on_hostile_ground(tmp_path, main)
