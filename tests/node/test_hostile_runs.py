"""What members, and careless owners, can do to a run must end no node, and cost no blob that is not theirs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.seams import TrainerFailed
from protocol.checkpoint import Offer, sign_note
from protocol.errors import FednodeError
from protocol.keys import BlobId
from protocol.run_events import Trained
from simulations.trainer import InProcessSession


def test_a_run_that_was_stopped_while_it_gathered_stays_stopped(tmp_path: Path) -> None:
    """Its join deadline passes later, and there is nothing left to stop."""

    async def main(ground: HostileGround) -> None:
        (owner,) = await ground.group(1)
        run = await ground.propose(owner, nodes=2, join_deadline_s=60)
        await owner.node.service.stop_run(run, "not now")
        await trio.sleep(600)
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
        await trio.sleep(60)
        alive(owner)
        seen = await owner.node.service.run(run)
        assert "sizes" in seen["reason"] and "\x1b" not in seen["reason"]

    on_hostile_ground(tmp_path, main)


def test_a_reason_of_several_lines_stops_a_run(tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        (owner,) = await ground.group(1)
        run = await ground.propose(owner, nodes=2)
        await owner.node.service.stop_run(run, "first line\nsecond \x07line")
        assert (await owner.node.service.run(run))["reason"] == "first line second  line"

    on_hostile_ground(tmp_path, main)


def test_a_run_that_lost_its_disk_holds_up_nobody(tmp_path: Path) -> None:
    """The run has failed on that node, in words; its messages go nowhere, and the group's log is still listened to."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        run = await ground.propose(first, nodes=3, rounds=200)

        def has_begun() -> bool:
            known = third.node.runs.known.get(run)
            return known is not None and known.driver is not None and known.driver.machine.ledger.committed_round > 1

        await ground.settled(has_begun, "round 2")
        third.disk.is_full = True
        await trio.sleep(30)
        third.disk.is_full = False
        states = {entry["node_id"]: entry for entry in (await third.node.service.run(run))["participants"]}
        assert "No space left" in states[third.node.identity.node_id]["reason"]
        await trio.sleep(2000)  # more messages than an inbox holds
        await first.node.service.stop_run(run, "enough")
        await ground.ended(run, [first, second])
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
            await trio.sleep(5)
            return await honest(journal)

        second.disk.records = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.node.service.accept, run, None)
            await trio.sleep(1)
            await first.node.service.stop_run(run, "enough")
        await ground.ended(run, [first])
        assert len(opened) == 1

    on_hostile_ground(tmp_path, main)


def test_an_update_that_names_somebodys_blob_does_not_have_it_deleted(tmp_path: Path, monkeypatch: Any) -> None:
    """A round's updates are deleted when it is committed: but not the model, nor the schema, that somebody calls so."""
    from node.run_task import RunTask

    honest = RunTask.train

    async def main(ground: HostileGround) -> None:
        first, second, hostile = await ground.group(3)
        finished = await ground.propose(first, nodes=3, rounds=1, name="finished")
        (known, *_) = await ground.ended(finished, [first, second, hostile])
        other = known.driver.machine.ledger.newest.model
        names = iter(("tensor_schema", "model", "other"))

        async def train(self: RunTask, wanted: Any) -> Trained:
            trained = await honest(self, wanted)
            if trained.offer.node != hostile.node.identity.node_id:
                return trained
            name = next(names)
            blob = other if name == "other" else getattr(wanted.base, name)
            return Trained(trained.offer.model_copy(update={"update": blob}))

        monkeypatch.setattr(RunTask, "train", train)
        run = await ground.propose(first, nodes=3, rounds=3)
        await ground.ended(run, [first, second, hostile])
        for life in (first, second):
            disk = life.disk
            ledger = life.node.runs.known[run].driver.machine.ledger
            for blob in (other, ledger.zero.checkpoint.model, ledger.newest.tensor_schema, ledger.newest.model):
                assert await disk.has_blob(BlobId(blob)), "a blob was deleted because an update was called like it"

    on_hostile_ground(tmp_path, main)


def test_an_update_that_says_it_is_huge_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: Any) -> None:
    from node.run_task import RunTask

    honest = RunTask.train

    async def main(ground: HostileGround) -> None:
        first, second, hostile = await ground.group(3)
        huge = await hostile.disk.put_blob(bytes(8 * 1024 * 1024))

        async def train(self: RunTask, wanted: Any) -> Trained:
            trained = await honest(self, wanted)
            if trained.offer.node != hostile.node.identity.node_id:
                return trained
            return Trained(trained.offer.model_copy(update={"update": huge, "update_bytes": 2**36}))

        monkeypatch.setattr(RunTask, "train", train)
        run = await ground.propose(first, nodes=3, rounds=1)
        (known, *_) = await ground.ended(run, [first, second])
        newest = known.driver.machine.ledger.newest
        refused = [entry for entry in newest.updates if entry.refused]
        assert newest.maker == hostile.node.identity.node_id or [entry.refused for entry in refused] == [
            "update-length"
        ]
        for life in (first, second):
            assert not await life.disk.has_blob(huge)

    on_hostile_ground(tmp_path, main)
