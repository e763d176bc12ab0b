"""How bytes are cut into chunks, and how a blob gets its name.

A blob is cut into chunks of CHUNK_BYTES, the last one shorter; an empty blob has none. A chunk's hash is the plain
BLAKE3 of its bytes. The blob's id is, in hex, the BLAKE3 of

    "fednode/blob/1\\n"  ·  the size in bytes as 8 bytes, little-endian  ·  the chunks' hashes, 32 bytes each, in order

so the list of hashes proves itself against the id, and each chunk proves itself against the list. The tag keeps a
chunk from passing for a list of chunks.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from blake3 import blake3

from protocol.errors import RemoteProtocolError
from protocol.keys import BlobId
from protocol.limits import BLOB_BYTES_MAX, CHUNK_BYTES

HASH_BYTES = 32
_TAG = b"fednode/blob/1\n"
_BLOB_ID = re.compile(r"[0-9a-f]{64}")


def chunk_count(size: int) -> int:
    return -(-size // CHUNK_BYTES)


def chunk_length(size: int, index: int) -> int:
    """Bytes in chunk `index`, from 0, of a blob of `size` bytes."""
    return min(CHUNK_BYTES, size - index * CHUNK_BYTES)


def hash_chunk(chunk: bytes | memoryview) -> bytes:
    digest: bytes = blake3(chunk).digest()
    return digest


def chunk_hashes_of(data: bytes) -> list[bytes]:
    view = memoryview(data)
    return [hash_chunk(view[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES)]


def chunk_hashes_of_file(
    file: IO[bytes], check_cancelled: Callable[[], None] = lambda: None, copy_to: IO[bytes] | None = None
) -> tuple[list[bytes], int]:
    """Read `file` from where it stands to its end, and copy it if that is asked for, in the memory of one chunk. Gives
    the chunks' hashes and the size of what was read; `check_cancelled` is called between chunks, and may raise."""
    room = memoryview(bytearray(CHUNK_BYTES))
    hashes: list[bytes] = []
    size = 0
    while length := _filled(file, room):
        check_cancelled()
        chunk = room[:length]
        if copy_to is not None:
            copy_to.write(chunk)
        hashes.append(hash_chunk(chunk))
        size += length
    return hashes, size


def blob_id_of(chunk_hashes: Sequence[bytes], size: int) -> BlobId:
    """The name of the blob with these chunks."""
    return BlobId(blake3(_TAG + size.to_bytes(8, "little") + b"".join(chunk_hashes)).hexdigest())


def blob_id_of_data(data: bytes | Path) -> BlobId:
    """The name of the blob with this content, be it in memory or in a file, which is read a chunk at a time."""
    if isinstance(data, bytes):
        return blob_id_of(chunk_hashes_of(data), len(data))
    with data.open("rb", buffering=0) as file:
        return blob_id_of(*chunk_hashes_of_file(file))


def is_blob_id(text: str) -> bool:
    return _BLOB_ID.fullmatch(text) is not None


def check_blob_id(blob: str) -> BlobId:
    """Raise RemoteProtocolError unless `blob` looks like a blob's id; ids come from peers and become file names."""
    if not is_blob_id(blob):
        raise RemoteProtocolError(f"{blob[:80]!r} is not a blob's id")
    return BlobId(blob)


def check_chunk_list(blob: BlobId, chunk_hashes: Sequence[bytes], size: int) -> None:
    """Raise RemoteProtocolError unless this is the chunk list that `blob` names."""
    check_blob_id(blob)
    if not 0 <= size <= BLOB_BYTES_MAX:
        raise RemoteProtocolError(f"The blob {blob} is said to have {size} bytes; the limit is {BLOB_BYTES_MAX}")
    fits = len(chunk_hashes) == chunk_count(size) and all(len(item) == HASH_BYTES for item in chunk_hashes)
    if not fits or blob_id_of(chunk_hashes, size) != blob:
        raise RemoteProtocolError(f"The chunk list sent for the blob {blob} is not that blob's")


def check_chunk(blob: BlobId, chunk_hashes: Sequence[bytes], size: int, index: int, chunk: bytes) -> None:
    """Raise RemoteProtocolError unless `chunk` is what the list promises at `index`."""
    if not 0 <= index < len(chunk_hashes):
        raise RemoteProtocolError(f"The blob {blob} has no chunk {index}")
    if len(chunk) != chunk_length(size, index) or hash_chunk(chunk) != chunk_hashes[index]:
        raise RemoteProtocolError(f"Chunk {index} sent for the blob {blob} does not have the promised hash")


def check_unproven_chunk(size: int, index: int, chunk: bytes) -> None:
    """Raise RemoteProtocolError unless an update of `size` bytes has a chunk `index` of this length. What is in it only
    a chunk list can prove."""
    if not 0 <= index < chunk_count(size) or len(chunk) != chunk_length(size, index):
        raise RemoteProtocolError(f"{len(chunk)} bytes as chunk {index} of an update of {size} bytes")


def _filled(file: IO[bytes], room: memoryview) -> int:
    """Fill `room` from `file`, less only at the end. How many bytes that were."""
    length = 0
    while length < len(room) and (count := file.readinto(room[length:])):  # type: ignore[attr-defined]  # typeshed
        length += count
    return length
