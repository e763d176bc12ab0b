"""When what a participant carries moves on: only when a committed checkpoint used its update.

Whoever trains reads the state that counts and writes the one that would follow, without touching the first
(node.training.participant_state). The node names that one after the update, before it offers it; when a checkpoint that
used the update is committed, it is renamed to the one that counts. An update that was refused, or came too late, leaves
its state behind: the next training goes out from the old one, as if the round had not been. So a crash at any moment
leaves the old or the new state, and saying the same twice changes nothing.

In the participant's directory of the run:

    carried                  the state that counts; none: zeros
    carried.next             written by training, not named yet
    carried.ROUND.UPDATE     what counts once that update is used; of two rounds at most, for an update may be used a
                             round late (docs/protocol.md §8.20)
"""

import os
from contextlib import suppress
from pathlib import Path

from tracker.durable import disk_errors, sync_directory

CARRIED_FILE = "carried"
NEXT_FILE = f"{CARRIED_FILE}.next"
NAMED_MAX = 2


def name_next(directory: Path, round_number: int, update: str) -> None:
    """What the last training left belongs to this update. Do it before anybody hears of the update. Raises
    FednodeError when the disk says no."""
    with disk_errors("keep what this node carries from round to round"):
        with suppress(FileNotFoundError):  # the training had nothing to leave
            os.replace(directory / NEXT_FILE, directory / _name(round_number, update))
            sync_directory(directory)
        for name in sorted(_named(directory))[:-NAMED_MAX]:
            (directory / name).unlink(missing_ok=True)
        for leftover in directory.glob(f"{NEXT_FILE}-*"):  # of a training that was killed
            leftover.unlink(missing_ok=True)


def use_named(directory: Path, round_number: int, update: str) -> None:
    """This update is in a committed checkpoint: its state counts from now on, and older ones never will. Raises
    FednodeError when the disk says no."""
    name = _name(round_number, update)
    with disk_errors("carry this node's state on"):
        with suppress(FileNotFoundError):  # done already, or of an update without any
            os.replace(directory / name, directory / CARRIED_FILE)
            sync_directory(directory)
        for older in _named(directory):
            if older < name:
                (directory / older).unlink(missing_ok=True)


def offered_rounds(directory: Path) -> list[int]:
    """The rounds whose updates' states may come to count still."""
    return sorted(int(name.split(".")[1]) for name in _named(directory))


def _name(round_number: int, update: str) -> str:
    return f"{CARRIED_FILE}.{round_number:08}.{update}"


def _named(directory: Path) -> list[str]:
    return [path.name for path in directory.glob(f"{CARRIED_FILE}.{'[0-9]' * 8}.*")]
