"""Combining a round where its results belong: in memory while they are small, through files when they are not."""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aggregation.combine import Outcome, Outputs, combine_into, output_sizes
from aggregation.schema import Schema
from aggregation.settings import CombineSettings
from aggregation.sources import FileSink, MemorySink
from aggregation.updates import Update
from tracker.durable import disk_errors

# Below this a model, its difference and its server state are combined in memory: files would cost more than they save.
IN_MEMORY_BYTES_MAX = 32 * 1024 * 1024
# The other core belongs to the node and its worker.
COMBINE_THREADS = 1


@dataclass(frozen=True)
class CombinedRound:
    """What came of it, as bytes or as files. Leave the context when they are stored: files are deleted then."""

    outcome: Outcome
    model: bytes | Path
    difference: bytes | Path
    server_state: bytes | Path
    has_server_state: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for result in (self.model, self.difference, self.server_state):
            if isinstance(result, Path):
                result.unlink(missing_ok=True)


def combine_round(
    base: bytes | Path,
    schema: Schema,
    updates: Sequence[Update],
    settings: CombineSettings,
    server_state: bytes | Path,
    scratch: Path | None,
) -> CombinedRound:
    """`aggregation.combine`, its memory bounded where there is a `scratch` folder. Raises FednodeError as it does."""
    sizes = output_sizes(schema, settings)
    if scratch is None or sum(sizes) <= IN_MEMORY_BYTES_MAX:
        memory = [MemorySink(size) for size in sizes]
        outcome = combine_into(Outputs(*memory), base, schema, updates, settings, server_state, COMBINE_THREADS)
        model, difference, state = (sink.take() for sink in memory)
        return CombinedRound(outcome, model, difference, state, sizes[2] > 0)
    paths: list[Path] = []
    try:
        with disk_errors("combine a round in the home's scratch folder"), contextlib.ExitStack() as stack:
            sinks: list[Any] = []
            for name in ("model", "difference", "state"):
                handle = stack.enter_context(tempfile.NamedTemporaryFile(dir=scratch, prefix=f"{name}-", delete=False))
                paths.append(Path(handle.name))
                sinks.append(stack.enter_context(FileSink(paths[-1])))
            outcome = combine_into(Outputs(*sinks), base, schema, updates, settings, server_state, COMBINE_THREADS)
    except BaseException:
        for path in paths:  # it is tried again, and the disk may be full of these
            path.unlink(missing_ok=True)
        raise
    return CombinedRound(outcome, paths[0], paths[1], paths[2], sizes[2] > 0)
