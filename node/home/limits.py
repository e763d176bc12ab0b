"""The owner's limits: how fast blobs go and come, and how much room they take. In force at once, and remembered."""

import json
from collections.abc import Mapping
from pathlib import Path

from node.home.home import LIMITS, SETTINGS, checked_limit, read_settings
from node.network.bulk.pace import Pace
from node.network.rates import rate_of, size_of
from node.seams import Disk
from tracker.blobs.quota import Quota
from tracker.durable import write_atomically

Json = dict[str, float | None]


def changed_limits(home: Path, changes: Mapping[str, str]) -> dict[str, str]:
    """The texts of `LIMITS` that the stopped node at `home` remembers, changed, and remembered so. Raises Refused."""
    path = home / SETTINGS
    known = read_settings(path)
    texts = {key: checked_limit(path, key, changes, known) for key in LIMITS}
    if changes:
        write_atomically(path, json.dumps({**known, **texts}, indent=2).encode() + b"\n")
    return texts


class Limits:
    """One node's. What is changed here is what `Home.settings` finds at the next start."""

    def __init__(self, disk: Disk, pace: Pace, quota: Quota) -> None:
        self._disk = disk
        self.pace = pace
        self.quota = quota

    def view(self) -> Json:
        """In bytes per second, and bytes; None is no limit."""
        return {
            "up_bytes_per_s": self.pace.up.bytes_per_s,
            "down_bytes_per_s": self.pace.down.bytes_per_s,
            "blobs_max_bytes": self.quota.bytes_max,
        }

    async def set(self, texts: Mapping[str, str]) -> Json:
        """Change some of `node.home.home.LIMITS`. Raises Refused for what is no rate or size, and changes nothing."""
        up = rate_of(texts["up"]) if "up" in texts else self.pace.up.bytes_per_s
        down = rate_of(texts["down"]) if "down" in texts else self.pace.down.bytes_per_s
        blobs_max = size_of(texts["blobs_max"]) if "blobs_max" in texts else self.quota.bytes_max
        known = json.loads(await self._disk.read(SETTINGS) or b"{}")
        await self._disk.write(SETTINGS, json.dumps({**known, **texts}, indent=2).encode() + b"\n")
        self.pace.set_limits(up, down)
        self.quota.bytes_max = blobs_max
        return self.view()
