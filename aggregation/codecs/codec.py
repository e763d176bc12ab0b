"""What a codec is: how float32 values of a flat vector are written in an update or a checkpoint.

Decides that every codec works block by block: a vector's code is the blocks' codes one after another, each of a length
known beforehand. So a slab of any update can be decoded alone, a blob's length is checked before anything is read, no
byte of it says where anything lies, and no code can swell beyond the schema. Coding may lose precision; decoding is
exact and the same on every CPU. What is not finite stays so through every codec: the checks look for it afterwards.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from aggregation.tensors.flat import F32
from aggregation.tensors.schema import Buffer
from protocol.errors import RemoteProtocolError


class MalformedCode(RemoteProtocolError):
    """A code of the right length that no encoder writes."""


class Codec(ABC):
    """One way to write float32 values. New ones need a name, a block and the three methods, and a place in CODECS."""

    name: ClassVar[str]
    block: ClassVar[int] = 1  # elements coded together, a power of two of at most 4,096; slabs begin at multiples of it
    # Whether so much is lost that it must be added to what is coded the next time (arXiv:1901.09847), or training
    # suffers. Who codes keeps what was lost, so such a codec is for updates, whose makers have a place for it.
    needs_feedback: ClassVar[bool] = False

    @abstractmethod
    def coded_bytes(self, elements: int) -> int:
        """The exact length of the code of `elements` values; for a multiple of `block`, also where the rest begins."""

    @abstractmethod
    def encode(self, values: F32) -> bytes:
        """The code of `values`, which begin at a multiple of `block`. Never raises for NaN: the checks look for it."""

    @abstractmethod
    def decode(self, coded: Buffer, out: F32) -> F32:
        """The `len(out)` values in `coded`, which has the right length: `out` itself, or a read-only view of `coded`.

        Raises MalformedCode for what `encode` never gives, where that could mean anything."""
