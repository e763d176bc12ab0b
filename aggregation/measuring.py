"""Reading an update's code once, from its beginning on, in pieces of any length: as it comes, or whole.

Decides nothing of its own: whatever the pieces, the findings are those of the whole, to the bit.
"""

import numpy as np

from aggregation.codecs.codec import Codec
from aggregation.tensors.flat import FlatLayout
from aggregation.tensors.norms import NORM_BLOCK, block_norm_squared, max_bits, norm_rooms
from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import Source

INFINITY_BITS = 0x7F800000
VALUE_END = 2.0**64  # no honest difference reaches it; it keeps everything computed later within float32's range
VALUE_END_BITS = int(np.float32(VALUE_END).view(np.uint32))


class Measuring:
    """Largest magnitudes and norm of a coded difference. For one thread at a time; keeps less than a block's code."""

    def __init__(self, schema: Schema, codec: Codec, *, with_norm: bool) -> None:
        self.maxima = np.zeros(len(schema.averaged), np.uint32)  # bits of the largest magnitude per averaged tensor
        self.with_norm = with_norm
        self._codec = codec
        self._layout = FlatLayout.of(schema)
        self._done = 0  # elements
        self._held = bytearray()  # the beginning of the next block's code
        elements = min(NORM_BLOCK, self._layout.elements)
        self._room = np.empty(elements, np.float32)
        self._rooms = norm_rooms(elements) if with_norm else None
        self._norm_squared = 0

    @property
    def norm_squared(self) -> int | None:
        """Of what is finite, in units of 4^-NORM_UNIT_BITS; None where nobody wants to know."""
        return self._norm_squared if self.with_norm else None

    @property
    def taken_bytes(self) -> int:
        """How many bytes of the code have been taken."""
        return self._codec.coded_bytes(self._done) + len(self._held)

    def take(self, piece: Buffer) -> None:
        """The code's next bytes. What follows the code, the counters, is left alone. Raises MalformedCode."""
        rest = memoryview(piece).cast("B")
        while self._done < self._layout.elements and len(rest):
            wanted = self._block_bytes() - len(self._held)
            part, rest = rest[:wanted], rest[wanted:]
            if len(part) == wanted and not self._held:
                self._take_block(part)  # where it lies
                continue
            self._held += part
            if len(part) == wanted:
                block, self._held = self._held, bytearray()
                self._take_block(block)

    def take_rest(self, source: Source) -> None:
        """What has not been taken yet of the code, which `source` begins with. Raises MalformedCode."""
        position, end = self.taken_bytes, self._codec.coded_bytes(self._layout.elements)
        scratch = memoryview(bytearray(self._codec.coded_bytes(len(self._room))))
        while position < end:
            length = self._block_bytes() - len(self._held)
            self.take(source.view(position, length, scratch))
            position += length

    def _block_bytes(self) -> int:
        return self._codec.coded_bytes(self._block_end()) - self._codec.coded_bytes(self._done)

    def _block_end(self) -> int:
        return min(self._done + NORM_BLOCK, self._layout.elements)

    def _take_block(self, coded: Buffer) -> None:
        start, stop = self._done, self._block_end()
        values = self._codec.decode(coded, self._room[: stop - start])
        slab_bits = 0
        for tensor, low, high in self._layout.pieces(start, stop):
            bits = max_bits(values[low:high])
            slab_bits = max(slab_bits, bits)
            self.maxima[tensor] = max(int(self.maxima[tensor]), bits)
        if self._rooms and slab_bits < VALUE_END_BITS:
            self._norm_squared += block_norm_squared(values, slab_bits, *self._rooms)
        self._done = stop
