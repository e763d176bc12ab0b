"""Files that commands write for people: whole or not at all, and never over another one unasked."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from fednode_client import ClientError


def refuse_to_replace(target: Path, *, force: bool) -> None:
    """Raises ClientError when something is at `target`, unless `force`."""
    if target.exists() and not force:
        raise ClientError(f"{target} is there already", remedy="name another file, or replace it with --force")


def write_file(target: Path, pieces: Iterable[bytes], *, force: bool) -> int:
    """Write `pieces` to `target`, and give how many bytes that are. With `force` a file that is there is replaced.

    Raises ClientError when it is there already, or cannot be written; nothing is asked for before that is clear."""
    refuse_to_replace(target, force=force)
    partial = target.with_name(f".{target.name}.part")
    size = 0
    try:
        with partial.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
        partial.replace(target)
    except OSError as error:
        raise ClientError(f"{target} cannot be written ({error.strerror})", remedy="name another file") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return size
