"""The frames of the blob protocol: what is asked, what is answered, and how they lie in bytes.

A request is its kind, a number that the asker chose, the blob's id, and what the kind needs. An answer is its status
and the number of the request, and, where there is something to say, further frames of nothing but that, so that a chunk
is never copied to be wrapped. Answers come in any order.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from protocol.errors import RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.limits import NODE_ID_CHARACTERS_MAX
from tracker.blobs.chunks import HASH_BYTES

# The chunk list and, of a small blob, its one chunk; of any other, the news as well: most blobs are small.
LIST = 0
CHUNK = 1  # one chunk, by its index, and whether another would do as well
NEWS = 2  # what the other end has of a blob and who else is after it, as soon as that is more than the asker knows
GOT = 3  # no question: these chunks came and were right
PASS = 4  # no question: a turn that was given is not needed
LEAVE = 5  # no question: nothing more is wanted of this blob just now

OK, REFUSED, NOT_HERE, DAMAGED = 0, 1, 2, 3
WAIT = 4  # others are before you; you are told when it is your turn, and now and then that you are not forgotten
TURN = 5  # it is your turn: ask for a chunk, best for one of those that come with this
UNKNOWN = 6  # a kind of request that this node does not know
IN_LINE = 8  # you wait already, for a chunk of the same blob
COMING = 7  # the answer is held up by a limit of ours, and will come

REQUEST_HEAD_BYTES = 37  # kind, number, blob
ANSWER_HEAD_BYTES = 5  # status, number
SIZE_BYTES = 8
INDEX_BYTES = 4
# Up to here a blob comes with its list, which saves a round trip; above it that is less than what giving it again and
# again would cost the node that has it first: 52 ms each at 10 Mbit/s.
INLINE_BYTES_MAX = 64 * 1024
GOT_CHUNKS_MAX = 64  # in one request
REQUEST_BYTES_MAX = REQUEST_HEAD_BYTES + GOT_CHUNKS_MAX * INDEX_BYTES
ADVICE_CHUNKS_MAX = 16  # that come with a turn: enough that one of them is still wanted
PEERS_TOLD_MAX = 12  # at once, of those who are after a blob: as many as one asks at a time
_ALL, _MAP, _MORE = 0, 1, 2  # what the news say of chunks: every one is here, a bit for each, or those that came since
# The longest news: a bit for each of 65,536 chunks, or as many indices, and the peers.
NEWS_BYTES_MAX = 512 * 1024


class Request(NamedTuple):
    kind: int
    number: int
    blob: BlobId
    body: bytes


class ChunkList(NamedTuple):
    """A blob's size in bytes and its chunks' hashes. All as a peer said it."""

    size: int
    hashes: list[bytes]


class News(NamedTuple):
    """What a peer says that it has of a blob. `chunks` came since it was asked last, with the `cursor` that it gave
    then; `peers` have, or are after, the blob too."""

    cursor: int
    is_whole: bool
    chunks: Sequence[int]
    peers: Sequence[NodeId]


def pack_request(kind: int, number: int, blob: BlobId, body: bytes = b"") -> bytes:
    return kind.to_bytes(1, "big") + number.to_bytes(4, "big") + bytes.fromhex(blob) + body


def read_request(frame: bytes) -> Request:
    """Raises RemoteProtocolError for what is too short to be answered."""
    if len(frame) < REQUEST_HEAD_BYTES:
        raise RemoteProtocolError(f"a request of {len(frame)} bytes for a blob")
    number, blob = int.from_bytes(frame[1:5], "big"), BlobId(frame[5:REQUEST_HEAD_BYTES].hex())
    return Request(frame[0], number, blob, frame[REQUEST_HEAD_BYTES:])


def pack_answer(status: int, number: int) -> bytes:
    return status.to_bytes(1, "big") + number.to_bytes(4, "big")


def read_answer(frame: bytes) -> tuple[int, int]:
    """Status and number. Raises RemoteProtocolError."""
    if len(frame) != ANSWER_HEAD_BYTES:
        raise RemoteProtocolError(f"an answer about a blob that begins with {len(frame)} bytes")
    return frame[0], int.from_bytes(frame[1:], "big")


def pack_list(size: int, hashes: Iterable[bytes]) -> bytes:
    return size.to_bytes(SIZE_BYTES, "little") + b"".join(hashes)


def read_list(body: bytes) -> ChunkList:
    """Raises RemoteProtocolError."""
    if len(body) % HASH_BYTES != SIZE_BYTES:
        raise RemoteProtocolError("a chunk list that is none")
    hashes = [body[start : start + HASH_BYTES] for start in range(SIZE_BYTES, len(body), HASH_BYTES)]
    return ChunkList(int.from_bytes(body[:SIZE_BYTES], "little"), hashes)


def pack_indices(indices: Iterable[int]) -> bytes:
    return b"".join(index.to_bytes(INDEX_BYTES, "big") for index in indices)


def read_indices(body: bytes, count: int) -> list[int]:
    """Indices of a blob of `count` chunks. Raises RemoteProtocolError."""
    if len(body) % INDEX_BYTES:
        raise RemoteProtocolError("indices of chunks that are cut off")
    indices = [int.from_bytes(body[at : at + INDEX_BYTES], "big") for at in range(0, len(body), INDEX_BYTES)]
    if any(index >= count for index in indices):
        raise RemoteProtocolError(f"a chunk {max(indices)} of a blob of {count}")
    return indices


def pack_asked_chunk(index: int, has_choice: bool) -> bytes:
    return index.to_bytes(INDEX_BYTES, "big") + has_choice.to_bytes(1, "big")


def read_asked_chunk(body: bytes, count: int) -> tuple[int, bool]:
    """Which chunk of `count`, and whether the asker could as well use another. Raises RemoteProtocolError."""
    if len(body) != INDEX_BYTES + 1:
        raise RemoteProtocolError("a question for a chunk that is none")
    return read_indices(body[:INDEX_BYTES], count)[0], bool(body[INDEX_BYTES])


def pack_asked_news(cursor: int, peers_wanted: int) -> bytes:
    return cursor.to_bytes(INDEX_BYTES, "big") + peers_wanted.to_bytes(1, "big")


def read_asked_news(body: bytes) -> tuple[int, int]:
    """What was known last, and how many peers are wanted. Raises RemoteProtocolError."""
    if len(body) != INDEX_BYTES + 1:
        raise RemoteProtocolError("a question for news that is none")
    return int.from_bytes(body[:INDEX_BYTES], "big"), min(body[INDEX_BYTES], PEERS_TOLD_MAX)


def pack_news(count: int, came: Sequence[int], cursor: int, peers: Collection[NodeId]) -> bytes:
    """Of a blob of `count` chunks, of which `came` are here, in the order in which they came; `cursor` of them the
    asker knows, and where it knows none it is told in bits."""
    if len(came) == count:
        form, told = _ALL, b""
    elif cursor == 0:
        form, told = _MAP, _pack_bits(count, came)
    else:
        form, told = _MORE, pack_indices(came[cursor:])
    head = len(came).to_bytes(INDEX_BYTES, "big") + form.to_bytes(1, "big") + len(told).to_bytes(INDEX_BYTES, "big")
    names = (len(peer).to_bytes(1, "big") + peer.encode() for peer in peers)
    return head + told + b"".join(names)


def read_news(body: bytes, count: int) -> News:
    """What a peer says of a blob of `count` chunks. Raises RemoteProtocolError."""
    head, end = 2 * INDEX_BYTES + 1, 2 * INDEX_BYTES + 1 + int.from_bytes(body[5:9], "big")
    if len(body) < end:
        raise RemoteProtocolError("news of a blob that are cut off")
    cursor, form, told = int.from_bytes(body[:INDEX_BYTES], "big"), body[INDEX_BYTES], body[head:end]
    if cursor > count or len(told) > count * INDEX_BYTES:
        raise RemoteProtocolError(f"{max(cursor, len(told) // INDEX_BYTES)} chunks of a blob of {count}")
    peers = _read_peers(body[end:])
    if form == _ALL:
        return News(cursor, True, (), peers)
    if form == _MAP:
        return News(cursor, False, _read_bits(told, count), peers)
    if form == _MORE:
        return News(cursor, False, read_indices(told, count), peers)
    raise RemoteProtocolError(f"news of a blob in a form {form}")


def _pack_bits(count: int, indices: Iterable[int]) -> bytes:
    bits = bytearray(-(-count // 8))
    for index in indices:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def _read_bits(bits: bytes, count: int) -> list[int]:
    if len(bits) != -(-count // 8):
        raise RemoteProtocolError(f"{len(bits)} bytes of bits for {count} chunks")
    indices = [at * 8 + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1]
    if indices and indices[-1] >= count:
        raise RemoteProtocolError(f"a chunk {indices[-1]} of a blob of {count}")
    return indices


def _read_peers(body: bytes) -> list[NodeId]:
    peers: list[NodeId] = []
    at = 0
    while at < len(body):
        end = at + 1 + body[at]
        name = body[at + 1 : end]
        if len(peers) >= PEERS_TOLD_MAX or end > len(body) or not 0 < len(name) <= NODE_ID_CHARACTERS_MAX:
            raise RemoteProtocolError("peers that are none, or too many")
        if not name.isalnum():  # of bytes: ASCII alone
            raise RemoteProtocolError("a peer whose name is none")
        peers.append(NodeId(name.decode("ascii")))
        at = end
    return peers
