"""How much room blobs may take: the owner's quota, and what the disk must keep free whatever the owner says.

A disk that is full takes no vote and no checkpoint any more, which is worse than a blob refused: so blobs leave a
margin, and journals and the record may use it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import Refused

# Whichever is less: journals and record grow by megabytes a day; on a small disk, a share that nobody misses.
FREE_BYTES_MIN = 1024**3
FREE_SHARE_MIN = 0.05
QUOTA_CODE = "blob-quota"
NO_ROOM_HERE = "no room here"  # how the reason begins for which a node takes no part in a run for now


@dataclass
class Quota:
    """May be changed at any time, by any thread. `bytes_max`: over all blobs, whole and half; None for none."""

    bytes_max: int | None = None
    free_bytes_min: int = FREE_BYTES_MIN

    def check(self, used: int, more: int, directory: Path, unwritten: int = 0) -> None:
        """Raise Refused where `more` bytes beside those `used` go over, or leave the disk of `directory` too full once
        those `unwritten` are on it, of what is used or beside."""
        if self.bytes_max is not None and used + more > self.bytes_max:
            raise Refused(
                QUOTA_CODE,
                f"{more:,} bytes more would go over the quota of {self.bytes_max:,} bytes for blobs, of which"
                f" {used:,} are used",
                remedy="raise it (fednode limits --blobs-max), or see what takes the room (fednode blobs) and keep "
                "less (fednode store retention)",
            )
        disk = os.statvfs(directory)
        free, floor = disk.f_bavail * disk.f_frsize - unwritten, self.floor(disk.f_blocks * disk.f_frsize)
        if free - more < floor:
            raise Refused(
                QUOTA_CODE,
                f"{more:,} bytes more would leave less than {floor:,} bytes free on the disk, which has {free:,} free",
                remedy="make room on the disk; journals and the record must be able to grow, so blobs leave a margin",
            )

    def floor(self, disk_bytes: int) -> int:
        """What stays free of a disk of so many bytes."""
        return min(self.free_bytes_min, int(disk_bytes * FREE_SHARE_MIN))
