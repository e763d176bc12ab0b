"""Files on their way into the blob store that were given away: moved in, where they can be, and no longer anybody's."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from protocol.errors import FednodeError
from tracker.durable import TEMPORARY_PREFIX


def changes(file: Path) -> FednodeError:
    return FednodeError(f"{file} changes while it is stored", remedy="leave alone what is being stored")


@contextlib.contextmanager
def moved_in(file: Path, folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file that is given away, open, under a temporary name in `folder` and with mode 0600; gone at the end unless it
    was moved on. Where `folder` is on another file system it is copied.

    Raises FednodeError when it is no plain file, or has other names; OSError when the disk says no."""
    path = folder / (TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        try:
            os.rename(file, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(file, path, follow_symlinks=False)
            file.unlink()
        # Neither is a link followed nor a pipe waited for.
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b", buffering=0) as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise FednodeError(f"{file} is no plain file of one name", remedy="leave alone what was given away")
            os.fchmod(descriptor, 0o600)
            os.utime(descriptor)  # its age, by which garbage is told, counts from now
            yield opened, path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
