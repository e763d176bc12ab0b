"""Codecs that write each value by itself: float32, and the two kinds of float in half its bytes."""

import numpy as np

from aggregation.codecs.codec import Codec
from aggregation.tensors.flat import F32, round_to_bfloat16, widen_bfloat16
from aggregation.tensors.schema import Buffer

_HALF_MAX = 0x7BFF  # the bits of 65,504
_HALF_INFINITY = 0x7C00
_HALF_NAN = 0x7E00
_HALF_MAGNITUDE = 0x7FFF


class Float32(Codec):
    """The values as they are, little-endian."""

    name = "fp32"

    def coded_bytes(self, elements: int) -> int:
        return 4 * elements

    def encode(self, values: F32) -> bytes:
        return values.astype("<f4", copy=False).tobytes()

    def decode(self, coded: Buffer, out: F32) -> F32:
        return np.frombuffer(coded, "<f4", len(out))


class BFloat16(Codec):
    """The upper half of a float32, rounded to nearest, ties to even: 8 bits of precision, float32's range."""

    name = "bf16"

    def coded_bytes(self, elements: int) -> int:
        return 2 * elements

    def encode(self, values: F32) -> bytes:
        return round_to_bfloat16(values).astype("<u2", copy=False).tobytes()

    def decode(self, coded: Buffer, out: F32) -> F32:
        return widen_bfloat16(np.frombuffer(coded, "<u2", len(out)), out)


class Float16(Codec):
    """IEEE 754's half, rounded to nearest, ties to even: 11 bits of precision from 6.1e-5 to 65,504.

    Below that the bits grow fewer, and from 3e-8 down nothing is left. A finite value above it becomes 65,504: a step
    that is cut short is still one in the right direction, while an infinity would have the whole update refused."""

    name = "fp16"

    def coded_bytes(self, elements: int) -> int:
        return 2 * elements

    def encode(self, values: F32) -> bytes:
        with np.errstate(over="ignore", under="ignore"):
            bits = values.astype("<f2").view("<u2")
        magnitudes = bits & _HALF_MAGNITUDE
        if magnitudes.size and magnitudes.max() >= _HALF_INFINITY:
            too_large = (magnitudes == _HALF_INFINITY) & np.isfinite(values)
            bits[too_large] -= _HALF_INFINITY - _HALF_MAX  # the sign stays
            bits[np.isnan(values)] = _HALF_NAN
        return bits.tobytes()

    def decode(self, coded: Buffer, out: F32) -> F32:
        np.copyto(out, np.frombuffer(coded, "<f2", len(out)))
        return out
