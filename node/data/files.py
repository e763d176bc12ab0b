"""Looking at what lies at a path: its kind, its size, and a fingerprint of its content.

Everything here blocks on the disk: run it where that holds nobody up.
"""

import codecs
import csv
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from protocol.errors import Refused

FOLDER_FILES_MAX = 100_000  # walking more takes minutes on a slow disk; whoever has more packs them
HEAD_BYTES = 64 * 1024  # of a .csv, enough to see whether it is text with a header
READ_BYTES = 4 * 1024 * 1024  # at a time while hashing: the speed of the disk, and little memory


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at the absolute `path`. `kind`: npz, csv, parquet or folder. `fingerprint`: BLAKE3 of the content."""

    path: str
    kind: str
    bytes: int
    fingerprint: str


def inspect(path: str) -> Found:
    """Look at `path`, which may begin with `~`. Raises Refused when it is no data set or cannot be read."""
    try:
        place = Path(path).expanduser().absolute()
        if place.is_dir():
            return Found(str(place), "folder", *_fold(place))
        if not place.exists():
            raise Refused("no-such-path", f"There is nothing at {place}", remedy="check the path")
        kind = _kind_of(place)
        hasher = blake3()
        return Found(str(place), kind, _hash_into(hasher, place), hasher.hexdigest())
    except RuntimeError as error:  # of expanduser
        raise Refused("no-such-path", f"{path} leads nowhere ({error})", remedy="write the path in full") from error
    except OSError as error:
        raise Refused(
            "unreadable",
            f"{error.filename or path} cannot be read ({error.strerror or error})",
            remedy="let the node's user read it, or check the disk",
        ) from error


def _fold(folder: Path) -> tuple[int, str]:
    """Size and fingerprint of a folder: over the relative names, sizes and contents of its files, sorted by name."""
    files = sorted(_files(folder))
    if not files:
        raise Refused("no-data", f"The folder {folder} has no files", remedy="register the folder that the data is in")
    hasher, total = blake3(b"fednode folder 1\0"), 0
    for name, path in files:
        encoded = os.fsencode(name)
        content = blake3()
        size = _hash_into(content, path)
        hasher.update(len(encoded).to_bytes(8, "little") + encoded + size.to_bytes(8, "little") + content.digest())
        total += size
    return total, hasher.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The plain files under `folder` with their relative names. Links are not followed: they may lead anywhere."""
    count = 0
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(parent, name))]
        for name in names:
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                count += 1
                yield path.relative_to(folder).as_posix(), path
        if count > FOLDER_FILES_MAX:
            raise Refused(
                "too-many-files",
                f"The folder {folder} has more than {FOLDER_FILES_MAX} files",
                remedy="pack them into fewer, such as one .npz or .parquet file",
            )


def _raise(error: OSError) -> None:
    raise error


def _hash_into(hasher: Any, path: Path) -> int:
    """Feed a file's content to `hasher`. Returns its size in bytes."""
    size = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(READ_BYTES):
            hasher.update(chunk)
            size += len(chunk)
    return size


def _kind_of(path: Path) -> str:
    """The kind by the file's name, once its content has been looked at too. Raises Refused when they do not agree."""
    if not path.is_file():
        raise Refused("no-file", f"{path} is neither a file nor a folder", remedy="register a file or a folder")
    kind = path.suffix.lower().removeprefix(".")
    looks_right = _LOOKS.get(kind)
    if looks_right is None:
        raise Refused(
            "unknown-kind",
            f"{path.name} is no .npz, .csv or .parquet file",
            remedy="convert it, or register its folder",
        )
    if not looks_right(path):
        raise Refused(
            "damaged-data", f"{path} is not a {kind} file, whatever its name says", remedy="check how it was written"
        )
    return kind


def _looks_like_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _looks_like_csv(path: Path) -> bool:
    """Text in UTF-8 with a first line that names columns."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        text = decoder.decode(head, final=len(head) < HEAD_BYTES)  # a cut may go through a character
        header = next(csv.reader(text.splitlines()), [])
    except (UnicodeDecodeError, csv.Error):
        return False
    return "\0" not in text and any(cell.strip() for cell in header)


def _looks_like_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        begins = file.read(4) == b"PAR1"
        if not begins or path.stat().st_size < 12:  # magic, length of the footer, magic
            return False
        file.seek(-4, os.SEEK_END)
        return file.read(4) == b"PAR1"


_LOOKS: dict[str, Callable[[Path], bool]] = {
    "npz": _looks_like_npz,
    "csv": _looks_like_csv,
    "parquet": _looks_like_parquet,
}
