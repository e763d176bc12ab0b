"""Updates: making one from a trained model, and judging one that a peer sent.

Decides what makes an update unusable. A judgement depends on the update's bytes, the base checkpoint and the run's
settings alone, so every node comes to the same; it is a value, never an exception, so one bad update stops no round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, ldexp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregation.codecs.codec import Codec, MalformedCode
from aggregation.codecs.registry import counters_position, difference_bytes
from aggregation.measuring import INFINITY_BITS, VALUE_END, VALUE_END_BITS, Measuring
from aggregation.tensors.flat import F32, SLAB_ELEMENTS, FlatLayout, read_stored, take_difference
from aggregation.tensors.norms import NORM_UNIT_BITS, exponent_of_bits
from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import MemorySink, Sink, Source, as_source, copy
from protocol.errors import FednodeError

SAMPLES_MAX = 2**48  # beyond this a count of samples is no count
COUNTER_RISE_MAX = 2**32  # in one round; nobody trains four thousand million batches between two checkpoints
NORM_BOUND_MIN = 2.0**-64  # far above what such blocks can hide


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
    steps: int = 1  # of its training, as its sender claims too


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
    measure_norms: bool = False  # also where there is no such bound, for what comes after the checks

    @property
    def need_norms(self) -> bool:
        return self.measure_norms or self.norm is not None


def update_of(
    name: str, data: Buffer | Path | Source, samples: int, checked: Checked | None = None, steps: int = 1
) -> Update:
    return Update(name, as_source(data), samples, checked, steps)


def encode_update(
    schema: Schema,
    base: Buffer | Path | Source,
    trained: Buffer | Path | Source,
    codec: Codec,
    into: Sink | None = None,
    *,
    residual: F32 | None = None,
    control: F32 | None = None,
) -> bytes:
    """The difference blob of `trained` against `base`, both raw models: returned, or written `into` a sink instead.

    A trained model that is not finite gives an update that every aggregator refuses.

    Args:
        residual: error feedback (arXiv:1901.09847): what earlier codes have lost, as long as the coded vector. It is
            added to what is coded, and overwritten by what is lost now.
        control: a change to be coded behind the difference, as long as that (aggregation.scaffold). It is overwritten
            by what receivers decode.
    """
    base, trained = as_source(base), as_source(trained)
    schema.check_length(base.size)
    schema.check_length(trained.size)
    layout = FlatLayout.of(schema)
    total = layout.elements * (1 if control is None else 2)
    counters_at = codec.coded_bytes(total)
    memory = MemorySink(0 if into else counters_at + schema.counters_bytes)
    sink = into or memory
    scratch = [memoryview(bytearray(8 * SLAB_ELEMENTS)) for _ in range(2)]
    room, decoded = np.empty((2, SLAB_ELEMENTS), np.float32)
    for start in range(0, total, SLAB_ELEMENTS):
        values = room[: min(total - start, SLAB_ELEMENTS)]
        difference, tail = np.split(values, [max(layout.elements - start, 0)])
        in_control = slice(start + len(difference) - layout.elements, start + len(values) - layout.elements)
        _take_differences(layout, base, trained, start, scratch, out=difference)
        if control is not None and len(tail):
            tail[:] = control[in_control]
        if residual is not None:
            values += residual[start : start + len(values)]
        coded = codec.encode(values)
        sink.write(codec.coded_bytes(start), coded)
        if residual is not None or len(tail):
            seen = codec.decode(coded, decoded[: len(values)])
            if control is not None and len(tail):
                control[in_control] = seen[len(difference) :]
            if residual is not None:
                np.subtract(values, seen, out=residual[start : start + len(values)])
    copy(trained, schema.counters_offset, schema.counters_bytes, sink, counters_at)
    return memory.take()


def difference_of(schema: Schema, base: Buffer | Path | Source, trained: Buffer | Path | Source) -> F32:
    """The whole flat difference of two raw models, uncoded."""
    base, trained = as_source(base), as_source(trained)
    layout = FlatLayout.of(schema)
    scratch = [memoryview(bytearray(8 * SLAB_ELEMENTS)) for _ in range(2)]
    whole = np.empty(layout.elements, np.float32)
    for start, stop in layout.slabs():
        _take_differences(layout, base, trained, start, scratch, out=whole[start:stop])
    return whole


def _take_differences(
    layout: FlatLayout, base: Source, trained: Source, start: int, scratch: Sequence[memoryview], out: F32
) -> None:
    """The flat difference from `start` on, as far as `out` goes."""
    for dtype, offset, part in layout.stored(start, start + len(out)):
        before, after = (
            read_stored(model, dtype, offset, part.stop - part.start, memory)
            for model, memory in zip((base, trained), scratch, strict=True)
        )
        take_difference(dtype, before, after, out=out[part])


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


def check_update(
    schema: Schema, codec: Codec, bounds: Bounds, update: Update, measuring: Measuring | None = None
) -> Checked | Refusal:
    """Read the update once and judge it. Where norms are needed the norm is computed too, which takes twice the time.

    An update that carries the findings of an earlier check within the same bounds is not read again. `measuring` has
    taken the beginning of these very bytes, and is given up: only the rest is read."""
    fault = _form_fault(schema, codec, update)
    if fault:
        return Refusal(update.name, *fault)
    found = update.checked
    if found is None or (bounds.need_norms and found.norm_squared is None):
        try:
            if measuring is None or measuring.with_norm != bounds.need_norms:
                measuring = Measuring(schema, codec, with_norm=bounds.need_norms)
            measuring.take_rest(update.source)
        except MalformedCode as error:
            return Refusal(update.name, "malformed-code", f"it is no code in {codec.name}: {error.what}")
        fault = _value_fault(schema, measuring.maxima) or _counter_fault(schema, codec, update.source, bounds.counters)
        if fault:
            return Refusal(update.name, *fault)
        exponents = tuple(exponent_of_bits(int(bits)) for bits in measuring.maxima)
        found = Checked(exponents, measuring.norm_squared)
    fault = _norm_fault(found, bounds.norm)
    return Refusal(update.name, *fault) if fault else found


def check_norm_bound(bound: float) -> None:
    """Raises FednodeError when no norm can be held against `bound`."""
    if not NORM_BOUND_MIN <= bound < VALUE_END:
        raise FednodeError(
            f"A norm bound of {bound} is impossible", remedy=f"choose {NORM_BOUND_MIN:.1g} to {VALUE_END:.1g}, or none"
        )


def _form_fault(schema: Schema, codec: Codec, update: Update) -> tuple[str, str] | None:
    # The length first: who has to fetch the update knows nothing more of one that is too long to be fetched.
    expected = difference_bytes(schema, codec)
    if update.source.size != expected:
        return "update-length", f"it has {update.source.size} bytes; the schema in {codec.name} makes {expected}"
    if type(update.samples) is not int or not 1 <= update.samples <= SAMPLES_MAX:
        return "samples-out-of-range", f"it claims {update.samples!r:.40} samples, not a whole number from 1 to 2^48"
    return None


def _value_fault(schema: Schema, maxima: npt.NDArray[np.uint32]) -> tuple[str, str] | None:
    for code, limit, complaint in (
        ("update-not-finite", INFINITY_BITS, "holds a NaN or an infinity"),
        ("update-too-large", VALUE_END_BITS, "holds a value of 2^64 or more"),
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
