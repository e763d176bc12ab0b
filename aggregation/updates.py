"""Updates: making one from a trained model, and judging one that a peer sent.

Decides what makes an update unusable. A judgement depends on the update's bytes, the base checkpoint and the run's
settings alone, so every node comes to the same; it is a value, never an exception, so one bad update stops no round.

Norms are computed in integers: each block of NORM_BLOCK elements is rounded to multiples of a power of two that leaves
its largest value 18 bits, and the squares, integers of at most 2^36, are added below 2^53, where float64 has no gaps.
So no two CPUs can differ over who is within a bound. Against the true norm it is off by less than one part in a
thousand, however the values are chosen, and by far less for any honest update.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, ldexp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregation.codecs import Codec, counters_position, difference_bytes
from aggregation.exact_sum import exponent_of
from aggregation.flat import F32, SLAB_ELEMENTS, FlatLayout, read_stored, take_difference
from aggregation.schema import Buffer, Schema
from aggregation.sources import MemorySink, Sink, Source, as_source, copy
from protocol.errors import FednodeError

SAMPLES_MAX = 2**48  # beyond this a count of samples is no count
VALUE_END = 2.0**64  # no honest difference reaches it; it keeps everything computed later within float32's range
COUNTER_RISE_MAX = 2**32  # in one round; nobody trains four thousand million batches between two checkpoints
NORM_BLOCK = 65_536  # elements; part of what a norm is, so it stays as it is
NORM_UNIT_BITS = 118  # norms are in units of 2^-118, and blocks of values below 2^-100 have norm 0
NORM_BOUND_MIN = 2.0**-64  # far above what such blocks can hide

_NORM_BITS = 18
_NORM_EXPONENT_MIN = _NORM_BITS - NORM_UNIT_BITS
_DOT_ELEMENTS = 4096
_INFINITY_BITS = 0x7F800000
_VALUE_END_BITS = int(np.float32(VALUE_END).view(np.uint32))
_SIGN_MASK = 0x7FFFFFFF


@dataclass(frozen=True)
class Checked:
    """What the checks found in an update that is fit to be used. Small; remember it to save the second reading."""

    value_exponents: tuple[int, ...]  # per averaged tensor the least e with all values below 2^e
    norm_squared: int | None  # of the flat difference, in units of 4^-NORM_UNIT_BITS; None when it decides nothing

    @property
    def norm(self) -> float | None:
        """For people to read. What decides compares `norm_squared`."""
        return None if self.norm_squared is None else ldexp(isqrt(self.norm_squared), -NORM_UNIT_BITS)


@dataclass(frozen=True)
class Update:
    """One participant's update, as the aggregator holds it."""

    name: str  # who sent it
    source: Source  # the difference blob, verified against its hash
    samples: int  # as its sender claims
    checked: Checked | None = None  # from `check_update` of these very bytes, when that was done at receipt


@dataclass(frozen=True)
class Refusal:
    """An update that does not count, by a rule's short stable name and a sentence for people."""

    name: str
    code: str
    sentence: str


@dataclass(frozen=True)
class Bounds:
    """What updates of a run must keep to, besides being finite."""

    counters: Mapping[str, npt.NDArray[Any]]  # the base checkpoint's
    norm: float | None = None  # the greatest acceptable Euclidean norm of a difference


def update_of(name: str, data: Buffer | Path | Source, samples: int, checked: Checked | None = None) -> Update:
    return Update(name, as_source(data), samples, checked)


def encode_update(
    schema: Schema,
    base: Buffer | Path | Source,
    trained: Buffer | Path | Source,
    codec: Codec,
    into: Sink | None = None,
) -> bytes:
    """The difference blob of `trained` against `base`, both raw models: returned, or written `into` a sink instead.

    A trained model that is not finite gives an update that every aggregator refuses."""
    base, trained = as_source(base), as_source(trained)
    schema.check_length(base.size)
    schema.check_length(trained.size)
    memory = MemorySink(0 if into else difference_bytes(schema, codec))
    sink = into or memory
    layout = FlatLayout.of(schema)
    scratch = [memoryview(bytearray(8 * SLAB_ELEMENTS)) for _ in range(2)]
    values = np.empty(SLAB_ELEMENTS, np.float32)
    for start, stop in layout.slabs():
        for dtype, offset, part in layout.stored(start, stop):
            before, after = (
                read_stored(model, dtype, offset, part.stop - part.start, memory_)
                for model, memory_ in zip((base, trained), scratch, strict=True)
            )
            take_difference(dtype, before, after, out=values[part])
        sink.write(codec.coded_bytes(start), codec.encode(values[: stop - start]))
    copy(trained, schema.counters_offset, schema.counters_bytes, sink, counters_position(schema, codec))
    return memory.take()


def read_counters(schema: Schema, source: Source, position: int) -> dict[str, npt.NDArray[Any]]:
    """The counters that lie at `position` of a raw model or a difference blob, in memory of their own."""
    if not schema.counters:
        return {}
    scratch = memoryview(bytearray(schema.counters_bytes))
    octets = source.view(position, schema.counters_bytes, scratch)
    counters: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for spec in schema.counters:
        part = octets[offset : offset + spec.stored_bytes]
        counters[spec.name] = np.frombuffer(bytes(part), spec.numpy_dtype).reshape(spec.shape)
        offset += spec.stored_bytes
    return counters


def check_update(schema: Schema, codec: Codec, bounds: Bounds, update: Update) -> Checked | Refusal:
    """Read the update once and judge it. With a norm bound the norm is computed too, which takes twice the time.

    An update that carries the findings of an earlier check within the same bounds is not read again."""
    fault = _form_fault(schema, codec, update)
    if fault:
        return Refusal(update.name, *fault)
    found = update.checked
    if found is None or (bounds.norm is not None and found.norm_squared is None):
        maxima, norm_squared = _measure(schema, codec, update.source, with_norm=bounds.norm is not None)
        fault = _value_fault(schema, maxima) or _counter_fault(schema, codec, update.source, bounds.counters)
        if fault:
            return Refusal(update.name, *fault)
        found = Checked(tuple(_exponent_of_bits(int(bits)) for bits in maxima), norm_squared)
    fault = _norm_fault(found, bounds.norm)
    return Refusal(update.name, *fault) if fault else found


def norm_squared_of(values: F32) -> int:
    """The squared norm of a whole flat vector of finite values below VALUE_END, in units of 4^-NORM_UNIT_BITS."""
    rooms = _norm_rooms(min(NORM_BLOCK, len(values)))
    blocks = (values[start : start + NORM_BLOCK] for start in range(0, len(values), NORM_BLOCK))
    return sum(_block_norm_squared(block, _max_bits(block), *rooms) for block in blocks)


def check_norm_bound(bound: float) -> None:
    """Raises FednodeError when no norm can be held against `bound`."""
    if not NORM_BOUND_MIN <= bound < VALUE_END:
        raise FednodeError(
            f"A norm bound of {bound} is impossible", remedy=f"choose {NORM_BOUND_MIN:.1g} to {VALUE_END:.1g}, or none"
        )


def _form_fault(schema: Schema, codec: Codec, update: Update) -> tuple[str, str] | None:
    if type(update.samples) is not int or not 1 <= update.samples <= SAMPLES_MAX:
        return "samples-out-of-range", f"it claims {update.samples!r:.40} samples, not a whole number from 1 to 2^48"
    expected = difference_bytes(schema, codec)
    if update.source.size != expected:
        return "update-length", f"it has {update.source.size} bytes; the schema in {codec.name} makes {expected}"
    return None


def _value_fault(schema: Schema, maxima: npt.NDArray[np.uint32]) -> tuple[str, str] | None:
    for code, limit, complaint in (
        ("update-not-finite", _INFINITY_BITS, "holds a NaN or an infinity"),
        ("update-too-large", _VALUE_END_BITS, "holds a value of 2^64 or more"),
    ):
        culprits = np.flatnonzero(maxima >= limit)
        if len(culprits):
            return code, f"its tensor {schema.averaged[culprits[0]].name!r} {complaint}"
    return None


def _counter_fault(
    schema: Schema, codec: Codec, source: Source, base: Mapping[str, npt.NDArray[Any]]
) -> tuple[str, str] | None:
    for name, values in read_counters(schema, source, counters_position(schema, codec)).items():
        before, after = base[name].reshape(-1), values.reshape(-1)
        # Two's complement differences are exact modulo 2^64, whatever the signs.
        rise = after.astype(np.uint64, casting="unsafe") - before.astype(np.uint64, casting="unsafe")
        if ((after > before) & (rise > COUNTER_RISE_MAX)).any():
            return "counter-too-large", f"its counter {name!r} rises by more than 2^32 in one round"
    return None


def _norm_fault(found: Checked, bound: float | None) -> tuple[str, str] | None:
    if bound is None or found.norm_squared is None or found.norm_squared <= (Fraction(bound) * 2**NORM_UNIT_BITS) ** 2:
        return None
    return "norm-too-large", f"its norm {found.norm:.6g} is over the bound of {bound:.6g}"


def _measure(
    schema: Schema, codec: Codec, source: Source, *, with_norm: bool
) -> tuple[npt.NDArray[np.uint32], int | None]:
    """The bits of the largest magnitude per averaged tensor, and the squared norm of what is finite."""
    layout = FlatLayout.of(schema)
    maxima = np.zeros(len(schema.averaged), np.uint32)
    elements = min(NORM_BLOCK, layout.elements)
    scratch = memoryview(bytearray(codec.coded_bytes(elements)))
    room = np.empty(elements, np.float32)
    norm_rooms = _norm_rooms(elements) if with_norm else None
    norm_squared = 0
    for start, stop in layout.slabs(NORM_BLOCK):
        position = codec.coded_bytes(start)
        coded = source.view(position, codec.coded_bytes(stop) - position, scratch)
        values = codec.decode(coded, room[: stop - start])
        slab_bits = 0
        for tensor, low, high in layout.pieces(start, stop):
            bits = _max_bits(values[low:high])
            slab_bits = max(slab_bits, bits)
            maxima[tensor] = max(int(maxima[tensor]), bits)
        if norm_rooms and slab_bits < _VALUE_END_BITS:
            norm_squared += _block_norm_squared(values, slab_bits, *norm_rooms)
    return maxima, norm_squared if with_norm else None


def _max_bits(values: F32) -> int:
    """The bits of the largest magnitude; from 0x7F800000 on where there is an infinity or a NaN.

    Magnitudes of floats order as their bits do. As signed integers the greatest is the largest positive value, as
    unsigned ones the largest negative value if there is any: two fast passes and none for `isnan`."""
    if not len(values):
        return 0
    positive = int(values.view(np.int32).max())
    negative = int(values.view(np.uint32).max())
    return max(positive, negative & _SIGN_MASK)


def _exponent_of_bits(bits: int) -> int:
    return exponent_of(float(np.uint32(bits).view(np.float32)))


def _norm_rooms(elements: int) -> tuple[F32, npt.NDArray[np.float64]]:
    return np.empty(elements, np.float32), np.empty(elements)


def _block_norm_squared(values: F32, max_bits: int, room: F32, wide_room: npt.NDArray[np.float64]) -> int:
    exponent = _exponent_of_bits(max_bits)
    if exponent < _NORM_EXPONENT_MIN:
        return 0
    shift = _NORM_BITS - exponent
    multiples, wide = room[: len(values)], wide_room[: len(values)]
    np.multiply(values, np.float32(ldexp(1.0, shift)), out=multiples)
    np.rint(multiples, out=multiples)
    np.copyto(wide, multiples)
    # Rows this short are not spread over threads, which would cost more than they give.
    whole = len(wide) // _DOT_ELEMENTS * _DOT_ELEMENTS
    rows, rest = wide[:whole].reshape(-1, _DOT_ELEMENTS), wide[whole:]
    return int(np.vecdot(rows, rows).sum() + np.dot(rest, rest)) << 2 * (NORM_UNIT_BITS - shift)
