"""A round's updates and its base checkpoint in, the next checkpoint out. What the aggregator does, and every auditor.

Decides the whole way from updates to model: check, plan, combine, server optimizer, code, decode, add to the base. The
outcome is a function of the base, the settings, the server state and the set of updates: their order, the number of
threads, and whether bytes lie in memory or in files change no bit of it. Memory is that of a few slabs per thread.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from aggregation.checkpoints import ModelWriter, copy_frozen
from aggregation.codecs import Codec, counters_position, difference_bytes
from aggregation.exact_sum import TERMS_MAX
from aggregation.flat import F32, SLAB_ELEMENTS, FlatLayout
from aggregation.rule import Candidate, Plan, Slab
from aggregation.schema import Buffer, Schema
from aggregation.server_optimizers import STATE_VALUE_END
from aggregation.settings import CombineSettings
from aggregation.sources import MemorySink, Sink, Source, as_source, kept_open
from aggregation.updates import Bounds, Checked, Refusal, Update, check_update, read_counters
from protocol.errors import FednodeError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Used:
    """An update that entered the checkpoint, and with which integer weight."""

    name: str
    weight: int
    norm: float | None  # of its difference, where the settings bound norms


@dataclass(frozen=True)
class Outcome:
    """What became of each update, sorted by name, and figures about the whole."""

    used: tuple[Used, ...]
    refused: tuple[Refusal, ...]
    exponents: tuple[int, ...]  # per averaged tensor the F of the fixed-point sum; empty where nothing was summed
    stats: dict[str, float]


@dataclass(frozen=True)
class Combined(Outcome):
    """A combined round in memory."""

    model: bytes  # raw
    difference: bytes  # coded: with the base it makes the model, by `apply_difference`
    server_state: bytes


@dataclass(frozen=True)
class Outputs:
    """Where a combined round is written to."""

    model: Sink
    difference: Sink
    server_state: Sink


def combine(
    base: Buffer | Path | Source,
    schema: Schema,
    updates: Sequence[Update],
    settings: CombineSettings,
    server_state: Buffer | Path | Source = b"",
    threads: int = 1,
) -> Combined:
    """The next checkpoint, in memory; see `combine_into`."""
    sinks = [MemorySink(size) for size in output_sizes(schema, settings)]
    outcome = combine_into(Outputs(*sinks), base, schema, updates, settings, server_state, threads)
    model, difference, state = (sink.take() for sink in sinks)
    return Combined(
        outcome.used,
        outcome.refused,
        outcome.exponents,
        outcome.stats,
        model=model,
        difference=difference,
        server_state=state,
    )


def combine_into(
    outputs: Outputs,
    base: Buffer | Path | Source,
    schema: Schema,
    updates: Sequence[Update],
    settings: CombineSettings,
    server_state: Buffer | Path | Source = b"",
    threads: int = 1,
) -> Outcome:
    """Write the checkpoint that follows `base`, a raw model, given its `server_state` (b"" at checkpoint 0).

    When no update is usable, model and server state stay what they were, bit for bit, and the difference says so.
    Raises FednodeError when the base or the state is damaged; never because of an update."""
    base, state = as_source(base), as_source(server_state)
    schema.check_length(base.size)
    _check_state_length(schema, settings, state)
    with kept_open((base, state, *(update.source for update in updates))):
        counters = read_counters(schema, base, schema.counters_offset)
        usable, refused = _judge(schema, updates, settings, Bounds(counters, settings.norm_bound), threads)
        spooled = [update for update, _ in usable]
        work = _Round(schema, FlatLayout.of(schema), settings, spooled, base, state, outputs)
        plan = work.plan([Candidate(update.name, update.samples, checked) for update, checked in usable])
        greatest = work.combine(plan, threads)
        weights = plan.weights if plan else ()
        used = [pair for pair, weight in zip(usable, weights, strict=True) if weight]
        work.write_counters(counters, [update for update, _ in used])
        copy_frozen(schema, base, outputs.model)
    listed = [
        Used(update.name, weight, checked.norm)
        for (update, checked), weight in zip(used, filter(None, weights), strict=True)
    ]
    refused = sorted([*refused, *(plan.refused if plan else ())], key=lambda refusal: refusal.name)
    stats = {
        "updates_used": len(listed),
        "updates_refused": len(refused),
        "weight": sum(weights),
        "samples": sum(update.samples for update, _ in used),
        "difference_max_abs": greatest,
    }
    return Outcome(tuple(listed), tuple(refused), plan.exponents if plan else (), stats)


def output_sizes(schema: Schema, settings: CombineSettings) -> tuple[int, int, int]:
    """The exact lengths of a raw model, a coded difference and a server state, for making room beforehand."""
    state_bytes = settings.make_server_optimizer().state_bytes(schema)
    return schema.model_bytes, difference_bytes(schema, settings.checkpoint_coding), state_bytes


def check_server_state(schema: Schema, settings: CombineSettings, state: Buffer | Path | Source) -> None:
    """Raises FednodeError unless a round with these settings can have left `state`."""
    source = as_source(state)
    _check_state_length(schema, settings, source)
    layout = FlatLayout.of(schema)
    arrays = len(settings.make_server_optimizer().state_names)
    slabs = _StateSlabs(layout.elements, arrays, source, MemorySink(0))
    for start, stop in layout.slabs():
        slabs.read(Slab(start, stop))


def _check_state_length(schema: Schema, settings: CombineSettings, state: Source) -> None:
    expected = settings.make_server_optimizer().state_bytes(schema)
    if state.size not in (0, expected):
        raise FednodeError(
            f"The server state has {state.size} bytes; {settings.server_optimizer} for this model has {expected}",
            remedy="use the server state of the base checkpoint",
        )


def _judge(
    schema: Schema, updates: Sequence[Update], settings: CombineSettings, bounds: Bounds, threads: int
) -> tuple[list[tuple[Update, Checked]], list[Refusal]]:
    """The usable updates with what the checks found, sorted by name, and the refusals."""
    refused, rest = _refuse_repeated(updates)
    refused += [
        Refusal(update.name, "too-many-updates", f"a round takes {TERMS_MAX} updates, in the order of their names")
        for update in rest[TERMS_MAX:]
    ]
    rest = rest[:TERMS_MAX]

    judged = _in_threads(partial(check_update, schema, settings.update_coding, bounds), rest, threads)
    usable = [(update, found) for update, found in zip(rest, judged, strict=True) if isinstance(found, Checked)]
    return usable, refused + [found for found in judged if isinstance(found, Refusal)]


def _refuse_repeated(updates: Iterable[Update]) -> tuple[list[Refusal], list[Update]]:
    """Of two updates by one sender none counts here, as nothing in them says which came first. (The node's door keeps
    the first and never lets a second in.)"""
    by_name: dict[str, list[Update]] = {}
    for update in updates:
        by_name.setdefault(update.name, []).append(update)
    refused = [
        Refusal(name, "duplicate-update", f"it sent {len(same)} updates for one round")
        for name, same in by_name.items()
        if len(same) > 1
    ]
    return refused, [by_name[name][0] for name in sorted(by_name) if len(by_name[name]) == 1]


def _in_threads(work: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    if threads <= 1 or len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


@dataclass(frozen=True)
class _Round:
    """One round's inputs and outputs, as a rule's spool and as the work of one slab after the other."""

    schema: Schema
    layout: FlatLayout
    settings: CombineSettings
    updates: Sequence[Update]
    base: Source
    state: Source
    outputs: Outputs

    def plan(self, candidates: Sequence[Candidate]) -> Plan | None:
        return self.settings.make_rule().plan(self.layout, candidates, self) if candidates else None

    def slabs(self, elements: int) -> list[Slab]:
        return [Slab(start, stop) for start, stop in self.layout.slabs(elements)]

    def rows(self, slab: Slab) -> "_Rows":
        return _Rows(self.updates, self.settings.update_coding, slab)

    def combine(self, plan: Plan | None, threads: int) -> float:
        """Write the averaged tensors' part of all outputs. The greatest magnitude in the decoded difference."""
        slabs = self.slabs(plan.slab_elements if plan else SLAB_ELEMENTS)
        # Each thread takes every n-th slab; slabs share nothing, so who does which makes no difference.
        count = max(threads, 1)
        shares = [slabs[first::count] for first in range(min(count, len(slabs)))]
        return max(_in_threads(lambda share: self._combine_share(plan, share), shares, threads), default=0.0)

    def _combine_share(self, plan: Plan | None, slabs: Sequence[Slab]) -> float:
        combiner = plan.combiner() if plan else None
        optimizer = self.settings.make_server_optimizer()
        state = _StateSlabs(self.layout.elements, len(optimizer.state_names), self.state, self.outputs.server_state)
        codec = self.settings.checkpoint_coding
        writer = ModelWriter(self.layout, self.base, self.outputs.model)
        room, decoded = np.empty((2, SLAB_ELEMENTS), np.float32)
        greatest = 0.0
        for slab in slabs:
            step = room[: slab.stop - slab.start]
            arrays = state.read(slab)
            if combiner:
                combiner(slab, self.rows(slab), step)
                step = optimizer.step(step, arrays)
            else:
                step.fill(-0.0)  # x + -0.0 is x for every x; x + 0.0 would change the sign of -0.0
            state.write(slab, arrays)
            coded = codec.encode(step)
            self.outputs.difference.write(codec.coded_bytes(slab.start), coded)
            values = codec.decode(coded, decoded[: len(step)])
            writer.write(slab.start, slab.stop, values)
            greatest = max(greatest, float(np.abs(values).max()))
        return greatest

    def write_counters(self, base: dict[str, npt.NDArray[Any]], used: Sequence[Update]) -> None:
        """Counters take the greatest value among the base's and the used updates'."""
        position = counters_position(self.schema, self.settings.update_coding)
        counters = base
        for update in used:
            theirs = read_counters(self.schema, update.source, position)
            counters = {name: np.maximum(values, theirs[name]) for name, values in counters.items()}
        octets = b"".join(counters[spec.name].astype(spec.numpy_dtype).tobytes() for spec in self.schema.counters)
        self.outputs.model.write(self.schema.counters_offset, octets)
        self.outputs.difference.write(counters_position(self.schema, self.settings.checkpoint_coding), octets)


class _Rows:
    """One slab of every usable update. One per thread, as it reuses its memory."""

    def __init__(self, updates: Sequence[Update], codec: Codec, slab: Slab) -> None:
        self._updates = updates
        self._codec = codec
        self._position = codec.coded_bytes(slab.start)
        self._length = codec.coded_bytes(slab.stop) - self._position
        self._scratch = memoryview(bytearray(self._length))

    def __len__(self) -> int:
        return len(self._updates)

    def read(self, index: int, out: F32) -> F32:
        coded = self._updates[index].source.view(self._position, self._length, self._scratch)
        return self._codec.decode(coded, out)


class _StateSlabs:
    """The server state's arrays, slab by slab; zeros before the first round."""

    def __init__(self, elements: int, arrays: int, source: Source, sink: Sink) -> None:
        self._elements = elements
        self._arrays = arrays
        self._source = source
        self._sink = sink
        self._scratch = memoryview(bytearray(4 * SLAB_ELEMENTS))

    def read(self, slab: Slab) -> list[F32]:
        """Raises FednodeError when the state holds what no round can have made."""
        length = slab.stop - slab.start
        if self._source.size == 0:
            return [np.zeros(length, np.float32) for _ in range(self._arrays)]
        slabs = []
        for index in range(self._arrays):
            view = self._source.view(self._offset(index, slab), 4 * length, self._scratch)
            values = np.frombuffer(view, "<f4").astype(np.float32)
            if not (np.abs(values) < STATE_VALUE_END).all():  # false for NaN too
                raise FednodeError("The server state is damaged", remedy="fetch the base checkpoint again")
            slabs.append(values)
        return slabs

    def write(self, slab: Slab, arrays: Sequence[F32]) -> None:
        for index, values in enumerate(arrays):
            self._sink.write(self._offset(index, slab), values.astype("<f4", copy=False).view(np.uint8).data)

    def _offset(self, index: int, slab: Slab) -> int:
        return 4 * (index * self._elements + slab.start)
