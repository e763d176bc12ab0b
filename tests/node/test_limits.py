"""The owner's limits: in force at once, kept over restarts, and what happens where the room is used up."""

import json
from pathlib import Path

import pytest
import trio

from node.home.disk import FileDisk
from node.home.home import SETTINGS, Home
from node.home.limits import Limits
from node.network.bulk.pace import Pace
from protocol.errors import FednodeError, Refused
from simulations.world.disk import SimulatedDisk
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of
from tracker.blobs.quota import Quota


def test_what_is_given_at_a_start_counts_for_later_ones(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        assert (home.settings().up, home.settings().blobs_max) == ("none", "none")
        given = home.settings(limits={"up": "2MB/s", "blobs_max": "50G"})
        assert (given.up, given.down, given.blobs_max) == ("2MB/s", "none", "50G")
        assert home.settings(limits={"up": "none"}).up == "none"
        assert home.settings().blobs_max == "50G"
        with pytest.raises(Refused, match="20M"):
            home.settings(limits={"down": "20M"})
        path = tmp_path / SETTINGS
        path.write_text(json.dumps({**json.loads(path.read_text()), "down": "quick"}))
        with pytest.raises(FednodeError, match="settings"):
            home.settings()


def test_what_is_changed_while_it_runs_counts_at_once_and_at_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        pace, quota, disk = Pace(), Quota(), FileDisk(tmp_path)
        limits = Limits(disk, pace, quota)
        told = await limits.set({"up": "8Mbit/s", "blobs_max": "1G"})
        assert told == {"up_bytes_per_s": 1e6, "down_bytes_per_s": None, "blobs_max_bytes": 10**9}
        assert (pace.up.bytes_per_s, pace.down.bytes_per_s, quota.bytes_max) == (1e6, None, 10**9)
        with pytest.raises(Refused):
            await limits.set({"up": "none", "down": "5"})
        assert limits.view() == told
        assert (await limits.set({"down": "1MB/s"}))["up_bytes_per_s"] == 1e6
        disk.close()

    with Home(tmp_path) as home:
        name = home.settings(name="ours").name
        trio.run(main)
        after = home.settings()
        assert (after.name, after.up, after.down, after.blobs_max) == (name, "8Mbit/s", "1MB/s", "1G")


def test_a_node_without_a_file_of_settings_has_limits_too() -> None:
    async def main() -> None:
        assert (await Limits(SimulatedDisk(), Pace(), Quota()).set({"up": "1MB/s"}))["up_bytes_per_s"] == 1e6

    trio.run(main)


@pytest.mark.parametrize("way", ["put", "take", "receive"])
def test_before_a_blob_is_refused_garbage_goes(way: str, tmp_path: Path) -> None:
    async def main() -> None:
        disk = FileDisk(tmp_path, quota=Quota(100))
        garbage = await disk.put_blob(bytes(80))
        data = b"x" * 50
        hashes, asked = chunk_hashes_of(data), 0

        async def store() -> None:
            if way == "put":
                await disk.put_blob(data)
            elif way == "take":
                (tmp_path / "given").write_bytes(data)
                await disk.take_blob(tmp_path / "given")
            else:
                await disk.receive_blob(blob_id_of(hashes, 50), hashes, 50)

        async def make_room() -> int:
            nonlocal asked
            asked += 1
            if asked == 1:
                return 0
            await disk.delete_blob(garbage)
            return 80

        with pytest.raises(Refused, match="quota of 100 bytes"):
            await store()
        disk.make_room = make_room
        with pytest.raises(Refused, match="quota of 100 bytes"):
            await store()
        assert await disk.has_blob(garbage)
        await store()
        assert asked == 2
        with pytest.raises(Refused):
            await disk.put_blob(bytes(60))
        assert asked == 3
        assert not (tmp_path / "given").exists(), "what was given away is gone, whatever came of it"
        disk.close()

    trio.run(main)
