"""What an update is called before it has a name of its own, which is its hash. docs/protocol.md §8.29."""

from protocol.keys import BlobId, Hash, NodeId
from protocol.wire import hash_of


def early_name(run: str, round_number: int, base: Hash, node: NodeId) -> BlobId:
    """The id by which what is coded just now is asked for. The tag keeps it from being any blob's."""
    return BlobId(hash_of(f"fednode/early/1\n{run}\n{round_number}\n{base}\n{node}".encode()))
