"""Files on their way from a worker to its node: the worker's side writes them, the node's side takes them in.

They lie in the folder of the task's session. What is in there may have been put there by anybody's code, so the node
opens nothing but plain files of that very folder, follows no link, and reads no more than it said it would. All that
it opens there, artifacts, models, updates or predictions, it opens by `open_left`.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from protocol.errors import FednodeError, RemoteProtocolError

ARTIFACT_BYTES_MAX = 256 * 1024 * 1024  # of one artifact: what is larger is data, or a model, which rounds keep anyway
STAGED_BYTES_MAX = 2 * 1024**3  # of a session, waiting to be taken in: as much as a run may keep altogether
INLINE_BYTES_MAX = 1024 * 1024  # smaller ones are read into memory: another file would cost more
PIECE_BYTES = 1024 * 1024  # copied at a time
_STAGED = re.compile(r"artifact-[0-9]{1,9}")


class Staging:
    """The task's side. `folder` is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._waiting_bytes = 0  # at most: what was taken in since the last look is still counted

    def put(self, content: bytes | Path) -> str:
        """Copy `content` into the folder. Gives the file's name there.

        Raises:
            FednodeError: it is too large, no plain file, or too much waits there already.
            OSError: it cannot be read, or the copy not be written.
        """
        if isinstance(content, Path) and not content.is_file():
            raise FednodeError(f"{content} is no file that is here", remedy="look for where it was written")
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        check_size(size, ARTIFACT_BYTES_MAX)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(size)
        self._count += 1
        target = self._folder / f"artifact-{self._count}"
        try:
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_bytes(content)
        except BaseException:
            self.drop(target.name)
            raise
        return target.name

    def drop(self, name: str) -> None:
        """Remove a file that nobody will be told of."""
        (self._folder / name).unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Count `size` bytes as waiting. Raises FednodeError when that is too much."""
        if self._waiting_bytes + size > STAGED_BYTES_MAX:
            self._waiting_bytes = _staged_bytes(self._folder)
        if self._waiting_bytes + size > STAGED_BYTES_MAX:
            raise FednodeError(
                f"{self._waiting_bytes:,} bytes of artifacts still wait to be kept, and {STAGED_BYTES_MAX:,} may",
                remedy="log fewer or smaller ones at once",
            )
        self._waiting_bytes += size


def take_in(folder: Path, name: str, bytes_max: int, scratch: Path | None) -> bytes | Path:
    """The node's side: the content of the staged file `name`, which is gone from `folder` then.

    Blocks on the disk. Gives the bytes, or, where they are many and there is a `scratch` folder, a new file in it, the
    caller's to delete.

    Raises:
        RemoteProtocolError: there is no such plain file.
        FednodeError: it has more than `bytes_max` bytes.
        OSError: the disk says no.
    """
    if not _STAGED.fullmatch(name):
        raise RemoteProtocolError(f"{name[:40]!r} is not what a staged file is called")
    try:
        file = _open_in(folder, name)
        try:
            return _copied(file, bytes_max, scratch)
        finally:
            os.close(file)
    finally:
        discard(folder, [name])


def discard(folder: Path, names: Iterable[str]) -> None:
    """Remove the staged files of these names that are still in `folder`. Blocks on the disk."""
    try:
        place = _folder(folder)
    except RemoteProtocolError:
        return  # and they with it
    try:
        for name in filter(_STAGED.fullmatch, names):
            with suppress(OSError):
                os.unlink(name, dir_fd=place)
    finally:
        os.close(place)


def open_left(folder: Path, name: str, bytes_max: int) -> int:
    """The node's side: the file that a worker left in `folder`, as a descriptor for reading.

    Blocks on the disk alone: neither is a link to another place followed nor a pipe waited for. Raises
    RemoteProtocolError when there is no such plain file, and FednodeError when it is over the bound.
    """
    file = _open_in(folder, name)
    try:
        check_size(os.fstat(file).st_size, bytes_max, name)
    except FednodeError:
        os.close(file)
        raise
    return file


def read_left(folder: Path, name: str, bytes_max: int) -> bytes:
    """The node's side: the whole content of what `open_left` opens. Raises like it."""
    with os.fdopen(open_left(folder, name, bytes_max), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)
    if len(content) != size:
        raise RemoteProtocolError(f"{name} changes while it is read")
    return content


def move_left(folder: Path, name: str, bytes_max: int, target: Path) -> None:
    """The node's side: move the file that a worker left in `folder` to `target`, which the worker does not know.

    What is moved may be useless, and stays there then. Blocks on the disk alone. Raises RemoteProtocolError when it is
    no plain file, and FednodeError when it is over the bound.
    """
    place = _folder(folder)
    try:
        os.rename(name, target, src_dir_fd=place)
    except OSError as error:
        raise RemoteProtocolError(f"{name} cannot be taken ({error.strerror})") from None
    finally:
        os.close(place)
    os.close(open_left(target.parent, target.name, bytes_max))


def _open_in(folder: Path, name: str) -> int:
    place = _folder(folder)
    try:
        return _opened(place, name)
    finally:
        os.close(place)


def _folder(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise RemoteProtocolError(f"The session's folder is gone ({error.strerror})") from None


def _opened(place: int, name: str) -> int:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    except OSError as error:
        raise RemoteProtocolError(f"The file {name} cannot be opened ({error.strerror})") from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise RemoteProtocolError(f"{name} is no plain file of the session's own")
    return file


def _copied(file: int, bytes_max: int, scratch: Path | None) -> bytes | Path:
    size = os.fstat(file).st_size
    check_size(size, bytes_max)
    if scratch is None or size <= INLINE_BYTES_MAX:
        pieces, read = [], 0
        while piece := os.read(file, PIECE_BYTES):
            read += len(piece)
            check_size(read, bytes_max)  # it may be growing
            pieces.append(piece)
        return b"".join(pieces)
    with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as copy:
        try:
            while piece := os.read(file, PIECE_BYTES):
                copy.write(piece)
                check_size(copy.tell(), bytes_max)
        except BaseException:
            os.unlink(copy.name)
            raise
    return Path(copy.name)


def _staged_bytes(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if _STAGED.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # it was taken in just now
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def check_size(size: int, bytes_max: int, name: str = "it") -> None:
    """Raises FednodeError when `size` is over the bound."""
    if size > bytes_max:
        raise FednodeError(
            f"{name} has {size:,} bytes, and {bytes_max:,} may be kept", remedy="log a smaller file, or fewer of them"
        )
