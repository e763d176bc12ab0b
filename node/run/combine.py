"""Combining a round where its results belong: in memory while they are small, through files when they are not."""

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aggregation.checkpoints import apply_difference
from aggregation.combine import Outcome, Outputs, combine_into, output_sizes
from aggregation.settings import CombineSettings
from aggregation.tensors.schema import Schema
from aggregation.tensors.sources import FileSink, MemorySink
from aggregation.updates import Update
from tracker.durable import disk_errors

# Below this a model, its difference and its server state are combined in memory: files would cost more than they save.
IN_MEMORY_BYTES_MAX = 32 * 1024 * 1024
# Two threads are no faster: their calls of numpy are short, and they pass the interpreter's lock between all of them.
COMBINE_THREADS = 1


@dataclass(frozen=True)
class CombinedRound:
    """What came of it, as bytes or as files, which may be moved away. Leave the context when they are stored."""

    outcome: Outcome
    model: bytes | Path
    difference: bytes | Path
    server_state: bytes | Path
    has_server_state: bool
    folder: Path | None = None  # where the files lie

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def apply_where_it_belongs(
    base: bytes | Path, schema: Schema, difference: bytes | Path, codec: str, scratch: Path | None
) -> bytes | Path:
    """`aggregation.apply_difference`; a large model is a new file in the `scratch` folder, the caller's to store."""
    if scratch is None or schema.model_bytes <= IN_MEMORY_BYTES_MAX:
        return apply_difference(base, schema, difference, codec)
    path = scratch / f"model-{secrets.token_hex(8)}"
    try:
        with disk_errors("make a model in the home's scratch folder"), FileSink(path) as sink:
            apply_difference(base, schema, difference, codec, sink)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def combine_round(
    base: bytes | Path,
    schema: Schema,
    updates: Sequence[Update],
    settings: CombineSettings,
    server_state: bytes | Path,
    scratch: Path | None,
    roster_nodes: int = 0,
) -> CombinedRound:
    """`aggregation.combine`, its memory bounded where there is a `scratch` folder. Raises FednodeError as it does."""
    sizes = output_sizes(schema, settings)
    if scratch is None or sum(sizes) <= IN_MEMORY_BYTES_MAX:
        memory = [MemorySink(size) for size in sizes]
        outcome = combine_into(
            Outputs(*memory), base, schema, updates, settings, server_state, COMBINE_THREADS, roster_nodes
        )
        model, difference, state = (sink.take() for sink in memory)
        return CombinedRound(outcome, model, difference, state, sizes[2] > 0)
    with disk_errors("combine a round in the home's scratch folder"):
        folder = Path(tempfile.mkdtemp(dir=scratch, prefix="round-"))
    paths = [folder / name for name in ("model", "difference", "state")]
    try:
        with disk_errors("combine a round in the home's scratch folder"), contextlib.ExitStack() as stack:
            sinks = [stack.enter_context(FileSink(path)) for path in paths]
            outcome = combine_into(
                Outputs(*sinks), base, schema, updates, settings, server_state, COMBINE_THREADS, roster_nodes
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # it is tried again, and the disk may be full of these
        raise
    return CombinedRound(outcome, paths[0], paths[1], paths[2], sizes[2] > 0, folder)
