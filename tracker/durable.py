"""Files that survive a crash, and the names that they may have.

A file is written beside its place, forced to the disk, renamed into place, and its directory forced too: after a crash
there is the old one or the new one, whole. (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.)
"""

import contextlib
import fcntl
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import FednodeError, Refused

NAME_CHARACTERS_MAX = 200  # of a whole relative name; file systems take 255 bytes a segment
NAME_SEGMENTS_MAX = 6
RESERVED_FOLDERS = ("journals", "blobs")  # of a node's home, where the disk keeps those
TEMPORARY_PREFIX = ".new-"  # no name begins with a dot, so no file of ours is ever taken for a temporary one
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_name(name: str) -> str:
    """`name`, if it is a relative path of plain segments that cannot leave its folder.

    Raises Refused otherwise.
    """
    segments = name.split("/")
    plain = all(_SEGMENT.fullmatch(segment) for segment in segments)
    if not plain or len(name) > NAME_CHARACTERS_MAX or len(segments) > NAME_SEGMENTS_MAX:
        raise Refused(
            "bad-name",
            f"{name[:80]!r} is not a name for a file",
            remedy="use letters, digits, dots, dashes and underscores, with single slashes between",
        )
    return name


def check_file_name(name: str) -> str:
    """`name`, if a small file of a node's home may have it. Raises Refused otherwise."""
    if check_name(name).split("/")[0] in RESERVED_FOLDERS:
        raise Refused("bad-name", f"{name!r} is reserved", remedy="use another first segment")
    return name


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data`, however much the system takes at a time."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync(descriptor: int) -> None:
    """Force a file's bytes, and its length, to the disk."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # there, fsync stops at the drive's own cache
    else:
        os.fdatasync(descriptor)


def sync_directory(directory: Path) -> None:
    """Force the names in `directory` to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory of mode 0700, and its parents, durably. One that is there already costs nothing."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_directory(directory.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path`, durably, mode 0600. The directory must be there."""
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            sync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


class OneAtATime:
    """Lets one at a time do what is within: threads of this process, and other processes at the same directory. Who is
    killed lets go."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._threads = threading.Lock()
        self._descriptor = -1

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            self._descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._let_go()
            raise

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._threads.release()


def remove_temporaries(directory: Path) -> None:
    """Remove what writers that were killed left behind, in `directory` alone."""
    for leftover in directory.glob(TEMPORARY_PREFIX + "*"):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn what the operating system says into something a person can act on.

    Args:
        doing: what was being done, to follow "could not", such as "write the journal votes/x".
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FednodeError(
            f"The disk could not {doing}: {reason}",
            remedy="see that the disk has room and works, and that the node's home belongs to you",
        ) from error
