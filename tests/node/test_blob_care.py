"""The care of the blobs of whole nodes: what each is, what is damaged comes again, what makes room and what never goes.

In virtual time, on simulated disks.
"""

from pathlib import Path

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from node.network.bulk.bulk import TransferProgress
from node.record.blob_care import FETCHED, NOBODY, NOT_NEEDED
from node.record.blob_usage import KINDS
from node.record.retention import MAKE_ROOM_AGAIN_S, UNUSED_S, URGENT_UNUSED_S
from protocol.keys import BlobId
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of
from tracker.tables.rows import ArtifactRow, iso

ROUNDS = 4
MINUTE_S = 60.0


async def after_a_run(ground: HostileGround, nodes: int) -> tuple[list[Life], str]:
    lives = await ground.group(nodes)
    run = await ground.propose(lives[0], rounds=ROUNDS, nodes=nodes)
    await ground.ended(run, lives)
    for life in lives:  # the store's clock is the machine's and not the simulation's: let it have been there for ever
        await life.node.record.change(lambda connection: connection.execute("DELETE FROM store_marks"))
    return lives, run


async def kinds_of(life: Life) -> dict[str, int]:
    told = await life.node.service.blobs.usage()
    assert [each["kind"] for each in told["kinds"]] == list(KINDS)
    assert sum(each["blobs"] for each in told["kinds"]) == told["blobs"]
    assert sum(each["bytes"] for each in told["kinds"]) == told["bytes"]
    return {each["kind"]: each["blobs"] for each in told["kinds"] if each["blobs"]}


def test_every_blob_has_a_kind_and_belongs_to_its_run(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life, *_), run = await after_a_run(ground, 2)
        artifact = await life.disk.put_blob(b"a picture")
        life.node.record.add(ArtifactRow(run, "n", "picture", "file", artifact, 9, 1.0, 1))
        await life.disk.put_blob(b"of nobody")
        half = b"half of it"
        await life.disk.receive_blob(blob_id_of(chunk_hashes_of(half), len(half)), chunk_hashes_of(half), len(half))
        life.disk.take_chunk(blob_id_of(chunk_hashes_of(half), len(half)), 0, half)
        kinds = await kinds_of(life)
        assert kinds["models"] == ROUNDS + 1
        assert (kinds["schemas"], kinds["artifacts"], kinds["halves"], kinds["unclaimed"]) == (1, 1, 1, 1)
        assert "garbage" not in kinds
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        kinds = await kinds_of(life)
        assert kinds["garbage"] == 3, "what came in half, what nobody claimed, and a model that no rule keeps"
        (of_run,) = (await life.node.service.blobs.usage())["runs"]
        assert (of_run["run_id"], of_run["blobs"]) == (run, sum(kinds.values()) - 3)

    on_hostile_ground(tmp_path, story)


def test_garbage_is_named_and_goes_and_nothing_else(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,), _ = await after_a_run(ground, 1)
        garbage = await life.disk.put_blob(b"of nobody")
        before = {entry.blob for entry in await life.disk.stored_blobs()}
        care = life.node.service.blobs
        early = await care.collect(dry_run=False)
        assert early["kinds"] == [], "it may yet be claimed"
        assert early["recent"]["blobs"] >= 1
        assert early["recent"]["bytes"] >= len(b"of nobody")
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        would = await care.collect(dry_run=True)
        assert would["recent"] == {"blobs": 0, "bytes": 0}
        (leftovers,) = [each for each in would["kinds"] if each["kind"] == "leftovers"]
        assert "audit" in leftovers["why"]
        assert {entry.blob for entry in await life.disk.stored_blobs()} == before
        did = await care.collect(dry_run=False)
        assert {**did, "dry_run": True} == would
        left = {entry.blob for entry in await life.disk.stored_blobs()}
        assert garbage not in left
        newest = life.node.runs.known[next(iter(life.node.runs.known))].driver.machine.ledger.newest
        assert {newest.model, newest.tensor_schema} <= left

    on_hostile_ground(tmp_path, story)


def test_where_the_room_is_used_up_what_was_stored_minutes_ago_goes_and_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAKE_ROOM_AGAIN_S < MINUTE_S < URGENT_UNUSED_S
    monkeypatch.setattr("node.record.retention.URGENT_UNUSED_S", MINUTE_S)  # five times as long takes that to simulate

    async def story(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=100_000, nodes=2)
        life = lives[0]
        known = life.node.runs.known
        await ground.settled(lambda: run in known and known[run].driver is not None, "the start")
        ledger = known[run].driver.machine.ledger
        await ground.settled(lambda: ledger.committed_round >= 2, "rounds")
        await life.node.record.change(lambda connection: connection.execute("DELETE FROM store_marks"))
        garbage = await life.disk.put_blob(b"of nobody")
        assert await life.node.retention.make_room() == 0
        assert await life.disk.has_blob(garbage)
        await trio.sleep(MINUTE_S + 1)  # virtual time passes
        freed = await life.node.retention.make_room()
        assert freed >= len(b"of nobody")
        assert garbage not in {entry.blob for entry in await life.disk.stored_blobs()}
        again = await life.disk.put_blob(b"of nobody")
        assert await life.node.retention.make_room() == 0, "not so soon again"
        assert await life.disk.has_blob(again)
        round_before = ledger.committed_round
        await ground.settled(lambda: ledger.committed_round > round_before + 2, "more rounds")

    on_hostile_ground(tmp_path, story)


def test_what_is_damaged_is_set_aside_and_comes_again_from_the_run(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life, *_), run = await after_a_run(ground, 2)
        care = life.node.service.blobs
        clean = await care.verify()
        assert clean["damaged"] == []
        assert clean["blobs"] == len(await life.disk.stored_blobs())
        newest = life.node.runs.known[run].driver.machine.ledger.newest
        ours, useless = await life.disk.put_blob(b"an artifact"), await life.disk.put_blob(b"of nobody")
        life.node.record.add(ArtifactRow(run, "n", "file", "file", ours, 11, 1.0, 1))
        for blob in (BlobId(newest.model), ours, useless):
            life.disk.damage_blob(blob)
        damaged = (await care.verify())["damaged"]
        words = {each["blob"]: each["of"] for each in damaged}
        name = life.node.runs.known[run].name
        assert words == {newest.model: f"model of round {ROUNDS} of {name}", ours: "artifact", useless: ""}
        told = {each["blob"]: each["again"] for each in damaged}
        assert told == {newest.model: FETCHED, ours: NOBODY, useless: NOT_NEEDED}
        assert (await care.verify())["damaged"] == []
        assert await life.disk.has_blob(BlobId(newest.model))
        assert not await life.disk.has_blob(useless)

    on_hostile_ground(tmp_path, story)


def test_a_transfer_is_told_with_what_it_is_whose_and_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(ground: HostileGround) -> None:
        (life, other), run = await after_a_run(ground, 2)
        node, peer = life.node, other.node.identity.node_id
        model = BlobId(node.runs.known[run].driver.machine.ledger.newest.model)
        began = trio.current_time() - 30
        going = [
            TransferProgress(model, "in", peer, 10, 40, 2.0, 15.0, began),
            TransferProgress(BlobId("ab" * 32), "out", "", 1, 2, 0.0, None, began),
        ]
        monkeypatch.setattr(node.bulk, "transfers", lambda: going)
        known, strange = await node.service.transfers.listed()
        assert (known["kind"], known["run_id"], known["peer"], known["peer_name"]) == (
            "checkpoint",
            run,
            peer,
            "node-1",
        )
        assert (known["direction"], known["done_bytes"], known["left_s"]) == ("in", 10, 15.0)
        assert known["began_at"] == iso(node.now() - 30)
        assert (strange["kind"], strange["run_name"], strange["peer_name"], strange["left_s"]) == ("", "", "", None)
        told: list[int] = []
        async for batch in node.service.events():
            told += [len(event["transfers"]) for event in batch if event["type"] == "transfers"]
            if told and told[-1]:
                monkeypatch.setattr(node.bulk, "transfers", list)
            elif told:
                break
        assert told[0] == 2, "told while there are any, and once more when there are none"

    on_hostile_ground(tmp_path, story)


def test_limits_and_transfers_are_told_with_the_status(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        life = await ground.born()
        service = life.node.service
        assert await service.transfers.listed() == []
        told = await service.transfers.set_limits({"down": "1MB/s"})
        assert (await service.status())["limits"] | {"blobs_bytes": 0} == told == await service.transfers.limits()
        assert (await service._snapshot())["transfers"] == []

    on_hostile_ground(tmp_path, story)
