"""Whether a disk has said no for want of room: then it is nobody else's fault, and may be mended within minutes."""

import errno
import os

from protocol.errors import FednodeError, Refused
from tracker.quota import QUOTA_CODE

DISK_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))  # as the system says it, here and in a worker


def is_full(error: FednodeError) -> bool:
    """Whether the disk itself is full, here or as a worker found it."""
    return any(full in error.what for full in DISK_FULL)


def is_no_room(error: FednodeError) -> bool:
    """Whether there is no room here: on the disk, or in what its owner allows blobs."""
    return is_full(error) or (isinstance(error, Refused) and error.code == QUOTA_CODE)
