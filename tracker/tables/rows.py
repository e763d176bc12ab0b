"""What the record holds: one frozen class per table, plain values only.

Times are seconds since the Unix epoch, in UTC, as floats; the store keeps them as naive UTC timestamps, and its
queries give them as ISO 8601 text with a Z, the same text that `iso` makes.

Two kinds of rows. *Facts* have a key, and a later row of the same key replaces the earlier one. *Events* are only ever
added; each carries a number (`sequence`) that its source gives out once, so a replay counts nothing twice. A source
must number upwards over its restarts too: begin at the larger of the highest number recorded and the epoch's
microseconds, since numbers given out shortly before a crash may be known to others and lost here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime


def utc(time: float) -> datetime:
    """The naive UTC timestamp that the store keeps for epoch seconds, to the microsecond."""
    return datetime.fromtimestamp(time, UTC).replace(tzinfo=None)


def iso(time: float) -> str:
    """Epoch seconds as queries give them: `2026-01-31T12:00:00.000000Z`."""
    return iso_of(utc(time))


def iso_of(timestamp: datetime) -> str:
    return timestamp.isoformat(timespec="microseconds") + "Z"


# --- facts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run that this node has heard of. Key: run_id."""

    run_id: str
    name: str
    project: str
    experiment: str
    group_id: str
    task: str
    data: str
    proposer: str
    rounds: int
    created_at: float
    manifest: str  # JSON


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """One entry of a run's manifest, flattened, for comparing runs. Key: run_id, key."""

    run_id: str
    key: str
    value: str
    type: str  # "int", "float", "bool", "str" …


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """What this node's owner decided about a run. Key: run_id."""

    run_id: str
    decision: str  # "undecided", "accepted" or "declined"
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class ParticipantRow:
    """A node of a run's roster. Key: run_id, node_id."""

    run_id: str
    node_id: str
    voter: bool
    samples: int
    role: str = ""  # "trainer", "validator" or "observer"; "" as long as nobody has said it
    data_fingerprint: str = ""  # of what it said that it trains on


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A committed round. Key: run_id, round. `term`: in which it was made. `bytes`: none where this node was away;
    `seconds`: since the commit before, 0 where that is not known."""

    run_id: str
    round: int
    term: int
    aggregator: str
    checkpoint: str  # hash of the checkpoint manifest
    model: str  # blob id
    committed_at: float
    updates_used: int
    updates_refused: str  # JSON: [{"node_id", "reason"}]
    bytes: int  # that the round's updates and checkpoint took on the wire
    seconds: float
    # JSON: [{"node_id", "samples", "bytes", "weight", "norm"?, "late"?, "refused"?: code}], which leave out what is not
    # so. Norms are known to who has computed them: the aggregator and auditors, where the run bounds norms.
    updates: str = "[]"
    audited: int = 0  # how many voters recompute the round before they acknowledge it


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A committed model. Key: run_id, round."""

    run_id: str
    round: int
    model: str  # blob id
    schema: str  # blob id of the tensor schema
    bytes: int
    time: float


@dataclass(frozen=True, slots=True)
class ElectionRow:
    """An aggregator that was elected. Key: run_id, term."""

    run_id: str
    term: int
    aggregator: str
    time: float


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """Something that a node's task made and kept. Key: run_id, node_id, name."""

    run_id: str
    node_id: str
    name: str
    kind: str
    blob: str
    bytes: int
    time: float
    round: int = 0
    details: str = "{}"  # JSON: what its maker says about it


@dataclass(frozen=True, slots=True)
class NodeParameterRow:
    """A setting that a node's task told while it ran. Key: run_id, node_id, key."""

    run_id: str
    node_id: str
    key: str
    value: str
    type: str  # as in ParameterRow
    time: float


@dataclass(frozen=True, slots=True)
class RegisteredModelRow:
    """A committed model under a name of this node's own. Key: name, version; versions count from 1."""

    name: str
    version: int
    run_id: str
    round: int
    model: str  # blob id
    schema: str  # blob id
    time: float
    removed: bool = False  # its number is not given to another model


@dataclass(frozen=True, slots=True)
class ModelAliasRow:
    """What a registered name's version is called, such as champion. Key: name, alias."""

    name: str
    alias: str
    version: int
    time: float
    removed: bool = False


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node that this one has heard of. Key: node_id."""

    node_id: str
    name: str
    member_id: str
    version: str
    capacity: str  # JSON, as in a presence announcement
    last_seen: float


@dataclass(frozen=True, slots=True)
class DataSetRow:
    """A data set of this node's own. It is in this node's record alone. Key: name."""

    name: str
    path: str
    kind: str
    bytes: int
    fingerprint: str
    options: str  # JSON
    added_at: float
    removed: bool = False
    statistics: str = "{}"  # JSON


# --- events ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A run (`node_id` "") or a participant went into a state. The newest added is the current one."""

    run_id: str
    node_id: str
    state: str
    reason: str
    round: int
    time: float
    sequence: int
    source_node: str = ""  # who saw it; "" for the node whose record this is


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One figure. Its source is `source_node` within a run. Where a round was done twice, the row added last counts."""

    run_id: str
    node_id: str
    scope: str  # "local" or "global"
    split: str  # "train" or "eval"
    key: str
    class_: str | None  # column "class"
    round: int
    epoch: int
    step: int
    value: float
    samples: int
    time: float
    source_node: str
    sequence: int


@dataclass(frozen=True, slots=True)
class LogRow:
    """A line that a node logged; `run_id` "" for lines that belong to no run. The source is `node_id`."""

    node_id: str
    run_id: str
    level: str  # "DEBUG", "INFO", "WARNING", "ERROR" or "CRITICAL"
    logger: str
    message: str
    time: float
    sequence: int


@dataclass(frozen=True, slots=True)
class SpanRow:
    """What a node was busy with in a round, and for how long. Its source is `source_node` within a run."""

    run_id: str
    node_id: str
    round: int
    name: str  # "wait", "train", "encode", "upload", "fetch", "aggregate", "evaluate", or a task's own, "task.…"
    peer: str  # the other node of an upload or a fetch, else ""
    started_at: float
    seconds: float
    bytes: int
    source_node: str
    sequence: int


@dataclass(frozen=True, slots=True)
class SystemMetricRow:
    """How busy a machine or a process was at one time. Its source is `source_node` within a run."""

    node_id: str
    run_id: str  # of a worker; "" for the machine and the node's own process
    scope: str  # "host", "node" (its process) or "worker"
    key: str  # as in node.system.metrics
    device: str  # of several alike, such as a GPU's number, else ""
    value: float
    unit: str  # "percent", "bytes", "watts", "celsius" or "count"
    round: int  # that a worker was in
    time: float
    source_node: str
    sequence: int


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """A model measured by its owner's wish on data of this node's. The source is `source_node`."""

    model: str  # blob id
    run_id: str
    round: int
    data: str  # a registered data set's name, or a path
    data_fingerprint: str
    samples: int
    metrics: str  # JSON
    time: float
    source_node: str
    sequence: int
    rows: str = "held-out"  # or "all": which of the data's


Fact = (
    RunRow
    | ParameterRow
    | DecisionRow
    | ParticipantRow
    | RoundRow
    | ModelRow
    | ElectionRow
    | ArtifactRow
    | NodeParameterRow
    | RegisteredModelRow
    | ModelAliasRow
    | NodeRow
    | DataSetRow
)
Event = StatusRow | MetricRow | LogRow | SpanRow | SystemMetricRow | EvaluationRow
Row = Fact | Event
