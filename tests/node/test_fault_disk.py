"""A disk that refuses blobs, at whoever trains and at whoever aggregates; a scratch folder that is full."""

import resource
from pathlib import Path

import numpy as np
import pytest
from hostile_ground import HostileGround, alive, on_hostile_ground

from aggregation.codecs.registry import codec_named
from aggregation.settings import CombineSettings
from aggregation.tensors.schema import Schema
from aggregation.updates import encode_update, update_of
from node.run import combine as run_combine
from node.run.combine import combine_round
from protocol.errors import FednodeError
from protocol.keys import BlobId
from tracker.blobs.blobs import BlobStore

ROUNDS = 6
MODEL_ELEMENTS = 100_000


@pytest.mark.parametrize("at", ["aggregator", "participant"])
def test_a_blob_folder_that_refuses_ends_one_nodes_part_and_not_the_run(tmp_path: Path, at: str) -> None:
    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], nodes=3, rounds=ROUNDS)

        def aggregator() -> str | None:
            known = lives[0].node.runs.known.get(run)
            return known.driver.machine.election.aggregator if known and known.driver else None

        await ground.settled(aggregator, "an aggregator")
        (victim, *_) = [life for life in lives if (life.node.identity.node_id == aggregator()) == (at == "aggregator")]

        async def refuse(source: bytes | Path) -> BlobId:
            raise FednodeError("The disk could not store the blob: Permission denied", remedy="see whose the home is")

        victim.disk.put_blob = refuse  # type: ignore[method-assign]
        others = [life for life in lives if life is not victim]
        known = await ground.ended(run, others)
        alive(*lives)
        assert all(entry.driver.machine.ledger.committed_round == ROUNDS for entry in known)
        seen = await victim.node.service.run(run)
        (part,) = [entry for entry in seen["participants"] if entry["node_id"] == victim.node.identity.node_id]
        assert (part["state"], part["reason"]) == ("FAILED", "The disk could not store the blob: Permission denied")

    on_hostile_ground(tmp_path, main)


def test_a_disk_that_is_full_for_a_while_costs_time_and_not_the_run(tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        put, full = life.disk.put_blob, list[str]()

        async def refuse(source: bytes | Path) -> BlobId:
            if len(full) < 3 and life.node.runs.known[run].driver is not None:
                full.append("again")
                raise FednodeError("The disk could not store the blob: No space left on device", remedy="make room")
            return await put(source)

        run = await ground.propose(life, nodes=1, rounds=2)
        life.disk.put_blob = refuse
        (known,) = await ground.ended(run, [life])
        assert len(full) == 3
        assert known.driver is not None
        assert known.driver.machine.ledger.newest.outcome == "finished"

    on_hostile_ground(tmp_path, main)


def test_what_the_system_says_of_the_blob_folder_comes_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path)

    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", denied)
    with pytest.raises(FednodeError, match=r"The disk could not store the blob .*: Permission denied") as failure:
        store.put(b"an update")
    assert "the node's home belongs to you" in failure.value.remedy


def test_a_full_scratch_folder_leaves_nothing_behind_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_combine, "IN_MEMORY_BYTES_MAX", 0)
    arrays = {"w": np.zeros(MODEL_ELEMENTS, np.float32)}
    schema = Schema.of_arrays(arrays)
    base, trained = schema.raw_of(arrays), schema.raw_of({"w": arrays["w"] + 1})
    updates = [update_of("ada", encode_update(schema, base, trained, codec_named("fp32")), 5)]
    settings = CombineSettings(update_codec="fp32", checkpoint_codec="fp32")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(FednodeError, match="could not combine a round in the home's scratch folder: "):
            combine_round(base, schema, updates, settings, b"", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    with combine_round(base, schema, updates, settings, b"", tmp_path) as combined:
        assert Path(str(combined.model)).read_bytes() == trained
