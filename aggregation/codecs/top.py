"""Codecs that write only the largest values of each block, and where they are.

What is left out counts as zero, so such a codec is of use only where its loss is fed back (arXiv:1809.07599). Rules
that compare updates, or sort coordinates, would see mostly zeros, and are not to be had with it
(protocol.manifest.rules).
"""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from aggregation.codecs.codec import Codec, MalformedCode
from aggregation.tensors.flat import F32, round_to_bfloat16, widen_bfloat16
from aggregation.tensors.schema import Buffer

BLOCK = 4096
_ENTRY_BYTES = 4  # an index of 16 bits and a bfloat16
_SIGN_MASK = 0x7FFFFFFF


class Top(Codec):
    """Of each block of 4,096 values (the last one shorter) the largest in magnitude, of equal ones the first: their
    indexes within the block, ascending, then their values as bfloat16.

    How many are kept follows from the block's length, rounded up; zeros are, where there is nothing else, so nothing
    ever pads it."""

    block = BLOCK
    needs_feedback = True
    share: ClassVar[int]  # one of so many values is kept

    def coded_bytes(self, elements: int) -> int:
        blocks, rest = divmod(elements, BLOCK)
        return _ENTRY_BYTES * (blocks * self._kept(BLOCK) + self._kept(rest))

    def encode(self, values: F32) -> bytes:
        whole = len(values) // BLOCK * BLOCK
        parts = (values[:whole].reshape(-1, BLOCK), values[whole:].reshape(1, -1))
        return b"".join(_encode_rows(rows, self._kept(rows.shape[1])) for rows in parts if rows.size)

    def decode(self, coded: Buffer, out: F32) -> F32:
        entries = np.frombuffer(coded, "<u2", self.coded_bytes(len(out)) // 2)
        whole = len(out) // BLOCK * BLOCK
        border = self.coded_bytes(whole) // 2
        out.fill(-0.0)  # which leaves every bit of what it is added to
        for part, rows in ((entries[:border], out[:whole].reshape(-1, BLOCK)), (entries[border:], out[None, whole:])):
            if rows.size:
                _decode_rows(part, rows, self._kept(rows.shape[1]))
        return out

    def _kept(self, elements: int) -> int:
        return -(-elements // self.share)


class Top10(Top):
    """A tenth of the values, in a tenth of float32's bytes."""

    name = "top10"
    share = 10


class Top1(Top):
    """A hundredth."""

    name = "top1"
    share = 100


def _encode_rows(values: F32, kept: int) -> bytes:
    count, length = values.shape
    magnitudes = values.view(np.int32) & _SIGN_MASK  # NaN is the greatest, then infinity: they are kept, and so seen
    least = np.partition(magnitudes, length - kept, axis=1)[:, length - kept, None]
    chosen = magnitudes >= least
    for row in np.flatnonzero(np.count_nonzero(chosen, axis=1) > kept):  # several equal ones, for too few places
        equal = np.flatnonzero(magnitudes[row] == least[row])
        above = np.count_nonzero(magnitudes[row] > least[row])
        chosen[row, equal[kept - above :]] = False
    places = np.flatnonzero(chosen)
    entries = np.empty((count, 2, kept), "<u2")
    entries[:, 0] = (places & (BLOCK - 1)).reshape(count, kept)
    entries[:, 1] = round_to_bfloat16(values.reshape(-1)[places]).reshape(count, kept)
    return entries.tobytes()


def _decode_rows(entries: npt.NDArray[np.uint16], rows: npt.NDArray[Any], kept: int) -> None:
    count, length = rows.shape
    indexes, bits = entries.reshape(count, 2, kept).transpose(1, 0, 2)
    if (indexes[:, -1] >= length).any() or (indexes[:, 1:] <= indexes[:, :-1]).any():
        raise MalformedCode("The indexes of a block do not ascend, or lie outside of it")
    places = indexes + np.arange(0, count * BLOCK, BLOCK)[:, None]
    values = widen_bfloat16(bits, np.empty((count, kept), np.float32))
    rows.reshape(-1)[places] = values
