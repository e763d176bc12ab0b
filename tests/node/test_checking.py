"""Updates are judged while they come, and as they would be afterwards."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import trio
from network_ground import Ground, run_on_simulated

from aggregation.settings import CombineSettings
from aggregation.tensors.norms import NORM_BLOCK
from aggregation.tensors.schema import Schema
from aggregation.updates import Bounds, Checked, Refusal, check_update, update_of
from node.network.bulk.arrival import Arrival
from node.network.bulk.bulk import Bulk
from node.run.checking import Checking
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from simulations.training.idle_trainer import IdleTrainer
from simulations.world.disk import SimulatedDisk
from simulations.world.network_wires import WireProfile
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of

SIZE = 5 * CHUNK_BYTES + 12_345
DATA = Random(1).randbytes(SIZE)
HASHES = chunk_hashes_of(DATA)
ELEMENTS = 1_500_000
SCHEMA = Schema.of_arrays({"a": np.zeros(ELEMENTS, np.float32), "steps": np.array(3, np.int64)})
COUNTERS = {"steps": np.array(3, np.int64)}


async def _two(ground: Ground) -> tuple[Bulk, Bulk, SimulatedDisk, SimulatedDisk]:
    nodes, disks = await ground.nodes(2), [SimulatedDisk(), SimulatedDisk()]
    bulks = [Bulk(network, disk, lambda peer, blob: True) for network, disk in zip(nodes, disks, strict=True)]
    for bulk in bulks:
        await ground.nursery.start(bulk.run)
    return bulks[0], bulks[1], disks[0], disks[1]


@pytest.mark.parametrize("here_before", [[], [0, 1, 3], [2, 5]])
@pytest.mark.parametrize("slow_s", [0.0, 0.5])
def test_chunks_are_handed_on_in_order_whatever_was_here_before(here_before: list[int], slow_s: float) -> None:
    """docs/protocol.md §8.28."""
    seen = bytearray()
    calls: list[int] = []

    async def take(chunks: list[bytes]) -> None:
        calls.append(len(chunks))
        await trio.sleep(slow_s)  # virtual time passes: the checks are slower than the line
        seen.extend(b"".join(chunks))

    async def test(ground: Ground) -> None:
        here, there, our_disk, their_disk = await _two(ground)
        blob = await their_disk.put_blob(DATA)
        half = await our_disk.receive_blob(blob, HASHES, SIZE)
        for index in here_before:
            await half.write_chunk(index, DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
        arrival = Arrival(take)
        async with arrival.following():
            await here.fetch(blob, [there._network.node_id], SIZE, arrival)
        assert DATA.startswith(bytes(seen))
        assert await our_disk.read_blob(blob) == DATA

    run_on_simulated(test, profile=WireProfile(bytes_per_s=4e6))
    assert calls
    if not slow_s:
        assert len(seen) >= SIZE - 2 * CHUNK_BYTES, "the checks lag behind"


def _update(harm: Callable[[np.ndarray[Any, Any]], None] = lambda values: None, steps: int = 4) -> bytes:
    values = np.random.default_rng(5).normal(size=ELEMENTS).astype("<f4")
    harm(values)
    return values.tobytes() + np.int64(steps).tobytes()


def _nan_at(index: int) -> Callable[[np.ndarray[Any, Any]], None]:
    return lambda values: values.__setitem__(index, np.nan)


@pytest.mark.parametrize("screened", [False, True])
@pytest.mark.parametrize(
    ("update", "code"),
    [
        (_update(), ""),
        (_update(_nan_at(0)), "update-not-finite"),
        (_update(_nan_at(ELEMENTS - 1)), "update-not-finite"),
        (_update(lambda values: values.__imul__(1e20)), "update-too-large"),
        (_update(steps=2**40), "counter-too-large"),
    ],
    ids=["good", "first NaN", "last NaN", "large", "counter"],
)
def test_an_update_that_is_checked_as_it_comes_is_judged_as_the_whole_is(
    update: bytes, code: str, screened: bool
) -> None:
    """docs/protocol.md §8.28."""
    settings = CombineSettings(update_codec="fp32", screen_factor=3.0 if screened else None)

    async def test(ground: Ground) -> None:
        here, there, our_disk, their_disk = await _two(ground)
        blob = await their_disk.put_blob(update)
        checking = Checking(settings, SCHEMA, IdleTrainer())
        async with checking.arrival.following():
            await here.fetch(blob, [there._network.node_id], len(update), checking.arrival)
        assert checking._measuring is not None
        assert checking._measuring.taken_bytes >= len(update) - 2 * CHUNK_BYTES
        bounds: Bounds = settings.bounds(COUNTERS)
        given = update_of("ada", await our_disk.blob_data(blob), 5)
        found = checking.judge(bounds, given)
        assert found == check_update(SCHEMA, settings.update_coding, bounds, given)
        assert (found.code if isinstance(found, Refusal) else "") == code
        assert not isinstance(found, Checked) or (found.norm_squared is not None) == screened

    run_on_simulated(test, profile=WireProfile(bytes_per_s=4e6))


def test_a_code_that_is_malformed_at_its_beginning_is_judged_whole() -> None:
    """docs/protocol.md §8.28."""
    settings = CombineSettings(update_codec="top10")
    schema = Schema.of_arrays({"a": np.zeros(20_000_000, np.float32)})
    size = settings.update_bytes(schema)
    update = b"\xff" * size
    blob = blob_id_of(chunk_hashes_of(update), size)

    async def test(ground: Ground) -> None:
        here, there, our_disk, their_disk = await _two(ground)
        await their_disk.put_blob(update)
        checking = Checking(settings, schema, IdleTrainer())
        async with checking.arrival.following():
            await here.fetch(BlobId(blob), [there._network.node_id], size, checking.arrival)
        assert await our_disk.has_blob(BlobId(blob)), "what is refused is kept for auditors"
        found = checking.judge(settings.bounds({}), update_of("ada", await our_disk.blob_data(BlobId(blob)), 5))
        assert isinstance(found, Refusal)
        assert found.code == "malformed-code"

    run_on_simulated(test, profile=WireProfile(bytes_per_s=4e6))


def test_a_malformed_beginning_is_not_forgotten_for_the_rest() -> None:
    """docs/protocol.md §8.28."""
    settings = CombineSettings(update_codec="top10")
    schema = Schema.of_arrays({"a": np.zeros(3 * NORM_BLOCK, np.float32)})
    codec = settings.update_coding
    values = np.random.default_rng(5).normal(size=NORM_BLOCK).astype(np.float32)
    good = codec.encode(values)
    pieces = [b"\xff" * len(good), good, good]
    checking = Checking(settings, schema, IdleTrainer())

    async def main() -> None:
        for piece in pieces:
            await checking._take([piece])

    trio.run(main)
    found = checking.judge(settings.bounds({}), update_of("ada", b"".join(pieces), 5))
    assert isinstance(found, Refusal)
    assert found.code == "malformed-code"
