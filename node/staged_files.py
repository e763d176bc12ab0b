"""Files on their way from a task to its node: the task's side writes them, the node's side takes them in.

They lie in the folder of the task's session. What is in there may have been put there by anybody's code, so the node
opens nothing but plain files of that very folder, follows no link, and reads no more than it said it would.
"""

import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from protocol.errors import FednodeError, RemoteProtocolError

ARTIFACT_BYTES_MAX = 256 * 1024 * 1024  # of one artifact: what is larger is data, or a model, which rounds keep anyway
INLINE_BYTES_MAX = 1024 * 1024  # smaller ones are read into memory: another file would cost more
PIECE_BYTES = 1024 * 1024  # copied at a time
_STAGED = re.compile(r"artifact-[0-9]{1,9}")


class Staging:
    """The task's side. `folder` is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def put(self, content: bytes | Path) -> str:
        """Copy `content` into the folder. Gives the file's name there.

        Raises:
            FednodeError: it is too large, or no plain file.
            OSError: it cannot be read, or the copy not be written.
        """
        if isinstance(content, Path) and not content.is_file():
            raise FednodeError(f"{content} is no file that is here", remedy="look for where it was written")
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        check_size(size, ARTIFACT_BYTES_MAX)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._count += 1
        target = self._folder / f"artifact-{self._count}"
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)
        return target.name


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
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise RemoteProtocolError(f"The session's folder is gone ({error.strerror})") from None
    try:
        file = _opened(place, name)
        try:
            return _copied(file, bytes_max, scratch)
        finally:
            os.close(file)
            with suppress(OSError):
                os.unlink(name, dir_fd=place)
    finally:
        os.close(place)


def _opened(place: int, name: str) -> int:
    """The file as a descriptor. Neither a link to another place is followed nor a pipe waited for."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    except OSError as error:
        raise RemoteProtocolError(f"The staged file {name} cannot be opened ({error.strerror})") from None
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


def check_size(size: int, bytes_max: int) -> None:
    """Raises FednodeError when `size` is over the bound."""
    if size > bytes_max:
        raise FednodeError(
            f"it has {size:,} bytes, and {bytes_max:,} may be kept", remedy="log a smaller file, or fewer of them"
        )
