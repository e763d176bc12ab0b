"""Whether a disk has said no for want of room: then it is nobody else's fault, and may be mended within minutes."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from protocol.errors import FednodeError, Refused
from protocol.run.events import TrainingFailed
from tracker.blobs.quota import NO_ROOM_HERE, QUOTA_CODE

T = TypeVar("T")
LacksRoom = Callable[[str, int, FednodeError], Awaitable[None]]  # what of which round has to wait, and why

TRAIN_AGAIN_S = 30.0  # while there is none: a round that was lost to it is trained again, not the run given up

DISK_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))  # as the system says it, here and in a worker


def is_full(error: FednodeError) -> bool:
    """Whether the disk itself is full, here or as a worker found it."""
    return any(full in error.what for full in DISK_FULL)


def is_no_room(error: FednodeError) -> bool:
    """Whether there is no room here: on the disk, or in what its owner allows blobs."""
    return is_full(error) or (isinstance(error, Refused) and error.code == QUOTA_CODE)


def without_room(round_number: int, error: FednodeError) -> TrainingFailed:
    """What a run's machine is told then."""
    return TrainingFailed(round_number, f"{NO_ROOM_HERE}: {error.what}"[:500], for_good=False)


async def trained_when_there_is_room(train: Callable[[], Awaitable[T]], round_number: int, lacks: LacksRoom) -> T:
    """What `train` gives; again and again while there is no room, for people make some within minutes. Raises what else
    it raises."""
    while True:
        try:
            return await train()
        except FednodeError as error:
            if not is_no_room(error):
                raise
            await lacks(f"is trained again every {TRAIN_AGAIN_S:g} s", round_number, error)
        await trio.sleep(TRAIN_AGAIN_S)
