"""A round's updates and its base checkpoint in, the next checkpoint out. What the aggregator does, and every auditor.

Decides the whole way from updates to model: check, plan, combine, server optimizer, code, decode, add to the base. The
outcome is a function of the base, the settings, the server state and the set of updates: their order, the number of
threads, and whether bytes lie in memory or in files change no bit of it. Memory is that of a few slabs per thread.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from aggregation.checkpoints import ModelWriter, copy_frozen
from aggregation.codecs.codec import Codec
from aggregation.codecs.registry import counters_position, difference_bytes
from aggregation.planning import plan_round
from aggregation.rules.rule import Candidate, Plan, Slab
from aggregation.scaffold import move_control
from aggregation.server_state import StateSlabs, check_state_length, state_bytes, state_names
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import F32, SLAB_ELEMENTS, FlatLayout
from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import MemorySink, Sink, Source, as_source, kept_open
from aggregation.updates import Bounds, Checked, Refusal, Update, check_update, read_counters

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
    roster_nodes: int = 0,
) -> Combined:
    """The next checkpoint, in memory; see `combine_into`."""
    sinks = [MemorySink(size) for size in output_sizes(schema, settings)]
    outcome = combine_into(Outputs(*sinks), base, schema, updates, settings, server_state, threads, roster_nodes)
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
    roster_nodes: int = 0,
) -> Outcome:
    """Write the checkpoint that follows `base`, a raw model, given its `server_state` (b"" at checkpoint 0).

    `roster_nodes`: how many nodes the base's roster has, which SCAFFOLD's control is the mean of.
    When no update is usable, model and server state stay what they were, bit for bit, and the difference says so.
    Raises FednodeError when the base or the state is damaged; never because of an update."""
    base, state = as_source(base), as_source(server_state)
    schema.check_length(base.size)
    check_state_length(schema, settings, state)
    of_updates = settings.of_updates(schema)
    with kept_open((base, state, *(update.source for update in updates))):
        counters = read_counters(schema, base, schema.counters_offset)
        usable, refused = _judge(of_updates, updates, settings, settings.bounds(counters), threads)
        spooled = [update for update, _ in usable]
        work = _Round(schema, of_updates, settings, spooled, base, state, outputs, roster_nodes)
        plan = work.plan([Candidate(update.name, update.samples, checked, update.steps) for update, checked in usable])
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
        **(plan.stats if plan else {}),
    }
    return Outcome(tuple(listed), tuple(refused), plan.exponents if plan else (), stats)


def output_sizes(schema: Schema, settings: CombineSettings) -> tuple[int, int, int]:
    """The exact lengths of a raw model, a coded difference and a server state, for making room beforehand."""
    difference = difference_bytes(schema, settings.checkpoint_coding)
    return schema.model_bytes, difference, state_bytes(schema, settings)


def _judge(
    schema: Schema, updates: Sequence[Update], settings: CombineSettings, bounds: Bounds, threads: int
) -> tuple[list[tuple[Update, Checked]], list[Refusal]]:
    """The usable updates with what the checks found, sorted by name, and the refusals."""
    refused, rest = _refuse_repeated(updates)
    most = settings.updates_max
    too_many = f"a round of this run takes {most} updates, in the order of their names"
    refused += [Refusal(update.name, "too-many-updates", too_many) for update in rest[most:]]
    rest = rest[:most]

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
    of_updates: Schema
    settings: CombineSettings
    updates: Sequence[Update]
    base: Source
    state: Source
    outputs: Outputs
    roster_nodes: int

    @cached_property
    def layout(self) -> FlatLayout:
        return FlatLayout.of(self.schema)

    @cached_property
    def layout_of_updates(self) -> FlatLayout:
        return FlatLayout.of(self.of_updates)

    def plan(self, candidates: Sequence[Candidate]) -> Plan | None:
        return plan_round(self.layout_of_updates, candidates, self, self.settings) if candidates else None

    def slabs(self, elements: int) -> list[Slab]:
        return [Slab(start, stop) for start, stop in self.layout_of_updates.slabs(elements)]

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
        make_model = _ModelSlabs(self)
        move_control = _ControlSlabs(self, sum(map(bool, plan.weights)) if plan else 0)
        room = np.empty(SLAB_ELEMENTS, np.float32)
        greatest = 0.0
        for slab in slabs:
            combined = room[: slab.stop - slab.start]
            if combiner:
                combiner(slab, self.rows(slab), combined)
            split = min(max(slab.start, self.layout.elements), slab.stop)  # behind it controls are moved
            of_model = combined[: split - slab.start]
            if len(of_model):
                greatest = max(greatest, make_model(Slab(slab.start, split), of_model if combiner else None))
            if split < slab.stop:
                at = Slab(split - self.layout.elements, slab.stop - self.layout.elements)
                move_control(at, combined[len(of_model) :] if combiner else None)
        return greatest

    def write_counters(self, base: dict[str, npt.NDArray[Any]], used: Sequence[Update]) -> None:
        """Counters take the greatest value among the base's and the used updates'."""
        position = counters_position(self.of_updates, self.settings.update_coding)
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


class _ModelSlabs:
    """From the updates' combined difference to the model, and all that is kept of it. One per thread."""

    def __init__(self, work: _Round) -> None:
        self._optimizer = work.settings.make_server_optimizer()
        self._arrays = range(len(self._optimizer.state_names))
        self._state = StateSlabs(work.layout.elements, work.state, work.outputs.server_state)
        self._codec = work.settings.checkpoint_coding
        self._difference = work.outputs.difference
        self._writer = ModelWriter(work.layout, work.base, work.outputs.model)
        self._room, self._decoded = np.empty((2, SLAB_ELEMENTS), np.float32)

    def __call__(self, slab: Slab, difference: F32 | None) -> float:
        """Write a slab; None: no update was usable. The greatest magnitude by which the model moves."""
        arrays = self._state.read(slab, self._arrays)
        if difference is None:
            step = self._room[: slab.stop - slab.start]
            step.fill(-0.0)  # x + -0.0 is x for every x; x + 0.0 would change the sign of -0.0
        else:
            step = self._optimizer.step(difference, arrays)
        self._state.write(slab, self._arrays, arrays)
        coded = self._codec.encode(step)
        self._difference.write(self._codec.coded_bytes(slab.start), coded)
        values = self._codec.decode(coded, self._decoded[: len(step)])
        self._writer.write(slab.start, slab.stop, values)
        return float(np.abs(values).max())


class _ControlSlabs:
    """SCAFFOLD's common control, which is the last array of the server state. One per thread."""

    def __init__(self, work: _Round, used: int) -> None:
        self._array = range(len(state_names(work.settings)))[-1:]
        self._state = StateSlabs(work.layout.elements, work.state, work.outputs.server_state)
        self._used = used
        self._roster_nodes = work.roster_nodes

    def __call__(self, slab: Slab, change: F32 | None) -> None:
        """Write a slab, `change` being the updates' mean; None: no update was usable."""
        (control,) = self._state.read(slab, self._array)
        if change is not None:
            move_control(control, change, self._used, self._roster_nodes)
        self._state.write(slab, self._array, [control])
