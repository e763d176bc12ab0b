"""What a running node can be asked through its local API, as one interface: node.api.http.api speaks HTTP for it.

Every answer is a value that JSON can hold, in the shapes that docs/api.md gives. Wherever an argument names a node, a
group or a run, a unique prefix of its id or its name does as well; finding what is meant is the service's work.

A no is raised, never returned: `Refused` where a rule says no (its code goes to the caller), `NotFound` where there is
no such thing, any other `FednodeError` where the node cannot do it now.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol

from node.api.service.audit import AuditService
from node.api.service.doctor import DoctorService
from node.api.service.members import MembershipService
from node.api.service.runs import RunListService
from node.api.service.store import BlobService, StoreService, TransferService
from node.seams import TaskOutput
from protocol.errors import Refused
from tracker.queries.log_pages import previous_place

Json = dict[str, Any]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LogPolicy = Literal["none", "errors", "all"]  # of our own lines about a run: which others in the run may read


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
    """Which measurements are wanted; None means all. `class_` "" means those of no class. With `points` they are
    thinned out to so many of each curve, and `limit` does not count."""

    key: str | None = None
    node: str | None = None
    scope: str | None = None
    split: str | None = None
    class_: str | None = None
    after_round: int | None = None
    before_round: int | None = None
    points: int | None = None
    limit: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """Which lines are wanted; None means all. `level` is the lowest that counts, `text` stands in a line, capitals or
    not. Either those `after` a line's `seq`, or the newest, or the newest `before` a line's place (`LogPage`)."""

    node: str | None = None
    level: str | None = None
    text: str | None = None
    after: int | None = None
    before: str | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines in their order. Go on after `next`, a `seq`; `previous`: the place to ask for what was said before them, or
    None when that is all."""

    lines: list[Json]
    next: int
    previous: str | None

    @classmethod
    def of(cls, lines: list[Json], query: LogsQuery) -> "LogPage":
        """The page that these lines are as the answer to `query`."""
        previous = previous_place(lines, query.limit) if query.after is None else None
        return cls(lines, max((line["seq"] for line in lines), default=query.after or 0), previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllLogsQuery:
    """Which lines of all nodes are wanted: of one `node`, of `level` and above, the newest `limit`; `follow`: and those
    that come."""

    node: str | None = None
    level: Level | None = None
    limit: int = 1000
    follow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done with a model. `data` names a registered set, or else `path` is a file or folder.

    `rows`: "held-out" for those that the task holds out, "all" for every one; None: of a registered set, which a run
    may have trained on, those held out, of other data all. `options` count before the data set's own. `task` is the
    path of our copy of the task's file.
    """

    data: str | None = None
    path: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    rows: str | None = None
    evaluate: bool = True
    predict: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of it: `told` as docs/api.md has it, and the predictions' file, open, for the caller to close."""

    told: Json
    predictions: IO[bytes] | None = None


class Judging(Protocol):
    """A model that is ready to be judged. `say` hears what the task's code says; cancelling ends its worker."""

    async def run(self, say: Callable[[TaskOutput], None]) -> Judged: ...


class ModelService(Protocol):
    """The node's models. `model` is MODEL as a person names it (node.record.model_names)."""

    async def listed(self, of: str | None) -> list[Json]: ...

    async def show(self, model: str) -> Json: ...

    async def schema(self, model: str) -> Json: ...

    async def file(self, model: str) -> ModelFile: ...

    async def tag(self, model: str, name: str, alias: str = "") -> Json: ...

    async def untag(self, name: str, alias: str) -> None: ...

    async def remove(self, name: str) -> int: ...


class PredictService(Protocol):
    """Evaluation and predictions on data of this node's."""

    async def prepare(self, model: str, wanted: Wanted) -> Judging:
        """See that everything is here. Raises NotFound and Refused."""


class CurveService(Protocol):
    """A run's past. `wanted`: the filters of docs/api.md, None for what is not asked for."""

    async def metrics(self, run: str, query: MetricsQuery) -> list[Json]: ...

    async def series(self, run: str) -> list[Json]:
        """Which curves there are."""

    async def timeline(self, run: str, limit: int) -> list[Json]:
        """The newest that befell it: elections, ends, faults; in their order."""

    async def updates(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        """What became of each update, the newest round first."""


class SystemService(Protocol):
    """How a run's nodes spent their time, and how busy their machines were. `wanted`: the filters of docs/api.md, None
    for what is not asked for."""

    async def spans(self, run: str, wanted: Mapping[str, Any]) -> list[Json]: ...

    async def metrics(self, run: str, wanted: Mapping[str, Any]) -> list[Json]: ...

    async def summary(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        """Of each thing that is measured on a node what it was last, and its mean, least and most."""

    async def states(self, run: str, wanted: Mapping[str, Any]) -> list[Json]:
        """What the run and its participants went into, in the order in which it was recorded."""


class DeviceService(Protocol):
    """Our nodes over time. `wanted`: `after`, a time or None, and `points`, how many each line has at most."""

    async def listed(self, wanted: Mapping[str, Any]) -> list[Json]: ...


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """An artifact: the blob that it is, its length in bytes, and the bytes in pieces."""

    blob: str
    size: int
    pieces: AsyncIterator[bytes]


class ArtifactService(Protocol):
    """What this node's tasks have made and kept."""

    async def all(self) -> list[Json]:
        """Those of every run."""

    async def listed(self, run: str) -> list[Json]: ...

    async def file(self, run: str, node: str, name: str) -> ArtifactFile: ...


class GatheringLogs(Protocol):
    """The lines of a run's nodes. `run` gives events to `send` until there are no more; it may be cancelled."""

    async def run(self, send: Callable[[list[Json]], Awaitable[None]]) -> None: ...


class LogService(Protocol):
    """What this node shows others of its lines about runs, and what it is shown of theirs."""

    async def policy(self) -> str:
        """`none`, `errors` or `all`."""

    async def set_policy(self, policy: LogPolicy) -> str: ...

    async def prepare(self, run: str, query: AllLogsQuery) -> GatheringLogs:
        """Raises NotFound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants proposed: `config` is TOML text; `NodeService.start_run` says what the rest is."""

    config: str
    source: str | None = None
    group: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


class ProposalService(Protocol):
    """Help for those who are still writing a run's configuration."""

    async def check(self, asked: Asked) -> Json:
        """What proposing would say, without proposing."""


class InboxService(Protocol):
    """What waits for a person, and what a run's proposal asks of this node."""

    async def items(self) -> list[Json]: ...

    async def seen(self, item_id: str) -> None:
        """Somebody has looked at it. Raises NotFound, and Refused for what needs an answer."""

    async def proposal(self, run: str) -> Json: ...


class NodeService(Protocol):
    """The node, for those who may open its socket."""

    @property
    def all_logs(self) -> LogService: ...

    @property
    def artifacts(self) -> ArtifactService: ...

    @property
    def proposals(self) -> ProposalService: ...

    @property
    def inbox(self) -> InboxService: ...

    @property
    def memberships(self) -> MembershipService: ...

    @property
    def registry(self) -> ModelService: ...

    @property
    def run_list(self) -> RunListService: ...

    @property
    def store(self) -> StoreService: ...

    @property
    def blobs(self) -> BlobService: ...

    @property
    def transfers(self) -> TransferService: ...

    @property
    def predictor(self) -> PredictService: ...

    @property
    def system(self) -> SystemService: ...

    @property
    def curves(self) -> CurveService: ...

    @property
    def devices(self) -> DeviceService: ...

    @property
    def doctor(self) -> DoctorService: ...

    @property
    def audits(self) -> AuditService: ...

    async def status(self) -> Json: ...

    async def stop(self) -> None:
        """Say goodbye in good order; the node is ended when this returns, or after a few seconds anyway."""

    async def peers(self) -> list[Json]: ...

    async def groups(self) -> list[Json]: ...

    async def create_group(self, name: str) -> Json: ...

    async def group(self, group: str) -> Json: ...

    async def invite(
        self, group: str | None, role: str, uses: int, expires_s: int, addresses: Sequence[str] = (), qr: bool = False
    ) -> Json: ...

    async def join(self, token: str) -> Json: ...

    async def data_list(self) -> list[Json]: ...

    async def data_add(self, name: str, path: str, options: Mapping[str, Any]) -> Json: ...

    async def data_show(self, name: str) -> Json:
        """DATA with its `statistics`, of what lies there as far as the node last looked."""

    async def data_remove(self, name: str) -> None: ...

    async def run(self, run: str) -> Json:
        """RUN with its `manifest`."""

    async def start_run(self, config: str, source: str | None, group: str | None, overrides: Mapping[str, Any]) -> Json:
        """Propose a run (protocol.manifest.read.read_configuration says what is wrong with `config`).

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

    async def rounds(self, run: str, after_round: int | None = None, limit: int = 100_000) -> list[Json]: ...

    async def logs(self, run: str | None, query: LogsQuery) -> LogPage:
        """Lines of one run or of everything."""

    async def model_file(self, run: str, round_number: int | None) -> ModelFile: ...

    async def sql(self, statement: str, rows_max: int) -> tuple[Sequence[str], Sequence[Sequence[Any]], bool]:
        """Columns, rows, and whether rows were cut off."""

    def events(self) -> AsyncIterator[list[Json]]:
        """Batches of events, the snapshot first. The subscription ends when the iterator is closed (`aclose`).

        A subscriber that is too slow loses deltas and finds a `dropped` event; never does it hold up the node.
        """

    async def prometheus(self) -> str:
        """Everything that is counted, in Prometheus' text format."""
