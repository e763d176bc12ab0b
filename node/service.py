"""What a running node can be asked through its local API, as one interface: node.api speaks HTTP for it.

Every answer is a value that JSON can hold, in the shapes that docs/api.md gives. Wherever an argument names a node, a
group or a run, a unique prefix of its id or its name does as well; finding what is meant is the service's work.

A no is raised, never returned: `Refused` where a rule says no (its code goes to the caller), `NotFound` where there is
no such thing, any other `FednodeError` where the node cannot do it now.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from protocol.errors import Refused

Json = dict[str, Any]


class NotFound(Refused):
    """Nothing answers to a name. The code begins with `no-such-`."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A checkpoint as a safetensors file: its length in bytes, and the bytes in pieces."""

    round: int
    model: str
    size: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsQuery:
    """Which measurements are wanted; None means all."""

    key: str | None = None
    node: str | None = None
    scope: str | None = None
    split: str | None = None
    after_round: int | None = None
    limit: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """Which lines are wanted; None means all. `level` is the lowest that counts; `after` is a line's `seq`."""

    node: str | None = None
    level: str | None = None
    after: int | None = None
    limit: int = 1000


class NodeService(Protocol):
    """The node, for those who may open its socket."""

    async def status(self) -> Json: ...

    async def stop(self) -> None:
        """Say goodbye in good order; the node is ended when this returns, or after a few seconds anyway."""

    async def peers(self) -> list[Json]: ...

    async def groups(self) -> list[Json]: ...

    async def create_group(self, name: str) -> Json: ...

    async def group(self, group: str) -> Json: ...

    async def invite(self, group: str | None, role: str, uses: int, expires_s: int) -> Json: ...

    async def join(self, token: str) -> Json: ...

    async def data_list(self) -> list[Json]: ...

    async def data_add(self, name: str, path: str, options: Mapping[str, Any]) -> Json: ...

    async def data_remove(self, name: str) -> None: ...

    async def runs(self, limit: int, before: str | None) -> list[Json]: ...

    async def run(self, run: str) -> Json:
        """RUN with its `manifest`."""

    async def start_run(self, config: str, source: str | None, group: str | None, overrides: Mapping[str, Any]) -> Json:
        """Propose a run (protocol.manifest_read.read_configuration says what is wrong with `config`).

        `source` is the file's absolute path: a relative task.path is looked for beside it, and it names the run where
        `config` does not. The answer is RUN with `taken_as`, the reading's notes.
        """

    async def accept(self, run: str, data: str | None, task: str | None) -> Json:
        """Take part. `task`: the path of our copy of the task's file, where the run's task is one."""

    async def decline(self, run: str, reason: str) -> Json: ...

    async def stop_run(self, run: str, reason: str) -> Json: ...

    async def resume_run(self, run: str) -> Json:
        """Let a stopped run go on from its newest checkpoint. Raises Refused when nothing has stopped it."""

    async def extend_run(self, run: str, rounds: int) -> Json:
        """Let a run last so many rounds more, also one that has finished."""

    async def policy(self) -> list[str]:
        """The rules by which this node accepts runs by itself: `all`, `mine`, `task:NAME`, `proposer:ID`."""

    async def set_policy(self, rules: Sequence[str]) -> list[str]: ...

    async def metrics(self, run: str, query: MetricsQuery) -> list[Json]: ...

    async def rounds(self, run: str) -> list[Json]: ...

    async def logs(self, run: str | None, query: LogsQuery) -> tuple[list[Json], int]:
        """Lines in their order, of one run or of everything, and the `seq` to go on after."""

    async def model_file(self, run: str, round_number: int | None) -> ModelFile: ...

    async def sql(self, statement: str, rows_max: int) -> tuple[Sequence[str], Sequence[Sequence[Any]], bool]:
        """Columns, rows, and whether rows were cut off."""

    def events(self) -> AsyncIterator[list[Json]]:
        """Batches of events, the snapshot first. The subscription ends when the iterator is closed (`aclose`).

        A subscriber that is too slow loses deltas and finds a `dropped` event; never does it hold up the node.
        """

    async def prometheus(self) -> str:
        """Everything that is counted, in Prometheus' text format."""
