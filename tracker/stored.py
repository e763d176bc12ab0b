"""What lies under a blob's name on a disk."""

from dataclasses import dataclass

from protocol.keys import BlobId


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """`unused_s`: for how long nobody has stored it or asked whether it is here. `is_half`: it is on its way in."""

    blob: BlobId
    bytes: int
    unused_s: float
    is_half: bool = False


@dataclass(frozen=True, slots=True)
class TakenBlob:
    """What a file that was given away has become. `is_new`: it is stored now, and was not before."""

    blob: BlobId
    is_new: bool
