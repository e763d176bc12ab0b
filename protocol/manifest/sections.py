"""The keys of a run's configuration: each stands here once, with its type, bounds, default and meaning.

What people read about the keys, the template and the errors are made from these classes (protocol.manifest.keys,
protocol.manifest.read). Rules over several keys are in protocol.manifest.rules.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from protocol.fields import HashText, Name
from protocol.limits import NAME_CHARACTERS_MAX, ROSTER_NODES_MAX, RUN_ROUNDS_MAX
from protocol.wire import Wire

PARAMETERS_MAX = 64  # of one table; a task that needs more reads a file of its own
PARAMETER_CHARACTERS_MAX = 1000  # of one text: a long prompt or path, no data
PARAMETER_ITEMS_MAX = 256  # of one list: layer sizes, class names
TAGS_MAX = 32
ROLES_MAX = 256  # nodes that are told their role; all others are trainers
DURATION_S_MAX = 30 * 86_400.0  # a round or a join that takes more than a month is a mistake in units

TOP_CODECS = ("top10", "top1")
FEEDBACK_CODECS = ("int8", *TOP_CODECS)  # what they lose is added to the next update by who made the last one

# Server optimizers that divide by what steps were like take one of about the rate in each coordinate, so 1 would throw
# the model about. Measured on digits (docs/methods.md).
ADAPTIVE_RATES = {"adagrad": 0.1, "adam": 0.05, "yogi": 0.05}

RuleName = Literal["mean", "median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centred_clipping"]
RunRole = Literal["trainer", "validator", "observer"]
Plain = bool | int | float | str


def _in_key_order(value: dict[str, Any]) -> dict[str, Any]:
    # Equal tables give equal bytes, whatever the order in which somebody typed them.
    return dict(sorted(value.items()))


def _parameters(value: object) -> dict[str, Plain | tuple[Plain, ...]]:
    """A bounded table of plain values and lists of them. Raises PydanticCustomError that names the culprit."""
    if not isinstance(value, Mapping):
        raise PydanticCustomError("parameters", "a table of plain values")
    if len(value) > PARAMETERS_MAX:
        raise PydanticCustomError("parameters", f"at most {PARAMETERS_MAX} entries")
    for name, entry in value.items():
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise PydanticCustomError("parameters", f"names of 1 to {NAME_CHARACTERS_MAX} characters")
        items = entry if isinstance(entry, tuple) else (entry,)
        if len(items) > PARAMETER_ITEMS_MAX or not all(map(_is_plain, items)):
            raise PydanticCustomError(
                "parameter",
                f"true or false, a finite number, a text of at most {PARAMETER_CHARACTERS_MAX} characters, "
                f"or a list of at most {PARAMETER_ITEMS_MAX} of these",
                {"entry": name, "given": entry},
            )
    return _in_key_order(dict(value))


def _is_plain(value: object) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63  # what msgpack and every other language can hold
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and len(value) <= PARAMETER_CHARACTERS_MAX


def _as_it_is(value: dict[str, Any]) -> Any:
    return value  # else Pydantic warns that JSON has a list where there was a tuple


Parameters = Annotated[dict[str, Plain | tuple[Plain, ...]], PlainValidator(_parameters), PlainSerializer(_as_it_is)]
Roles = Annotated[dict[Name, RunRole], Field(max_length=ROLES_MAX), AfterValidator(_in_key_order)]


class TaskKeys(Wire):
    """What is trained: a task that comes with fednode, or a Python file of yours."""

    name: Literal["digits", "tabular"] | None = Field(default=None, description="a task that comes with fednode")
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=PARAMETER_CHARACTERS_MAX,
        description="a Python file with a fednode.Task, looked for beside this file; give this or task.name",
    )
    parameters: Parameters = Field(default={}, description="handed to the task as they are")


class TaskReference(Wire):
    """The task as the group's log names it: built in, or a file by its BLAKE3 hash and base name."""

    name: Literal["digits", "tabular"] | None = None
    file: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,79}\.py$")] | None = None
    hash: HashText | None = None
    parameters: Parameters = Field(default={})

    @model_validator(mode="after")
    def _one_task(self) -> Self:
        if (self.name is None) == (self.file is None) or (self.file is None) != (self.hash is None):
            raise PydanticCustomError("task", "either a name, or a file and its hash")
        return self


class Data(Wire):
    """Which data set each node trains on. Its name and fingerprint are known to the group; path and content stay."""

    name: Name = Field(description="the name under which every node added its own data (fednode data add NAME PATH)")
    options: Parameters = Field(
        default={}, description="handed to the task with the data, such as the column to predict"
    )


class Training(Wire):
    """How each node trains, and for how long."""

    rounds: int = Field(default=10, ge=1, le=RUN_ROUNDS_MAX, description="rounds: train everywhere, combine, commit")
    epochs: int = Field(default=1, ge=1, le=10_000, description="passes over a node's own data in each round")
    batch_size: int = Field(default=32, ge=0, le=1_000_000, description="samples per step; 0: all of them at once")
    learning_rate: float = Field(
        default=0.1, gt=0, le=1000, allow_inf_nan=False, description="step size of the optimizer"
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False, description="of sgd")
    weight_decay: float = Field(
        default=0.0, ge=0, le=1000, allow_inf_nan=False, description="L2 penalty on the weights"
    )
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="of each node; starts afresh every round")
    proximal_mu: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="FedProx's pull towards the round's checkpoint; 0: none",
    )


class Roster(Wire):
    """Who takes part."""

    nodes_min: int = Field(
        default=2, ge=1, le=ROSTER_NODES_MAX, description="the run starts when so many nodes are ready"
    )
    nodes_max: int = Field(default=1000, ge=1, le=ROSTER_NODES_MAX, description="no more nodes are taken in than this")
    join_deadline_s: float = Field(
        default=3600.0,
        gt=0,
        le=DURATION_S_MAX,
        allow_inf_nan=False,
        description="the run fails when too few are ready by then",
    )
    roles: Roles = Field(default={}, description="node = role, for nodes that do not train; all others are trainers")


class Round(Wire):
    """When a round is complete."""

    fraction: float = Field(
        default=1.0, gt=0, le=1, allow_inf_nan=False, description="share of the nodes drawn to train in each round"
    )
    updates_min: int = Field(
        default=1, ge=1, le=ROSTER_NODES_MAX, description="a round with fewer updates is not committed"
    )
    deadline_s: float = Field(
        default=600.0,
        gt=0,
        le=DURATION_S_MAX,
        allow_inf_nan=False,
        description="a round does not wait longer for the slow",
    )
    deadline_min_s: float | None = Field(
        default=None,
        gt=0,
        le=DURATION_S_MAX,
        allow_inf_nan=False,
        description="given this, the deadline adapts: three times the median of recent rounds, from this to deadline_s",
    )
    late: Literal["refuse", "use"] = Field(
        default="refuse",
        description="what becomes of an update that is a round late: nothing, or it counts half in the next round",
    )


class Aggregation(Wire):
    """How updates become the next checkpoint."""

    rule: RuleName = Field(
        default="mean", description="how updates are combined; docs/rules.md says what each is good against"
    )
    weighting: Literal["samples", "uniform"] | None = Field(
        default=None, description="what an update counts by: left out it is samples with mean, uniform with others"
    )
    weight_max: int | None = Field(
        default=None, ge=1, le=2**19, description="more samples than this count as so many; left out it is 2^19"
    )
    byzantine_share: float = Field(
        default=0.2,
        ge=0,
        lt=0.5,
        allow_inf_nan=False,
        description="of the updates, what krum, multi_krum, trimmed_mean and nnm take for lies at most",
    )
    pre_aggregation: Literal["none", "nnm"] = Field(
        default="none", description="nnm: before the rule each update becomes the mean of those nearest to it"
    )
    screen_factor: float | None = Field(
        default=None,
        ge=1,
        le=1e6,
        allow_inf_nan=False,
        description="updates so many times as long as the round's median are refused",
    )
    clip: Literal["none", "norm", "median"] = Field(
        default="none", description="longer updates are shortened to clip_norm, or to the round's median norm"
    )
    clip_norm: float | None = Field(
        default=None, ge=1e-18, le=1e19, allow_inf_nan=False, description="L2 norm, with clip = norm"
    )
    clip_radius: float | None = Field(
        default=None,
        ge=1e-18,
        le=1e19,
        allow_inf_nan=False,
        description="of centred_clipping; left out it is the median of the distances from the centre",
    )
    codec: Literal["fp32", "bf16", "fp16", "int8", "top10", "top1"] = Field(
        default="bf16",
        description="how updates travel: fp32 exact, bf16 and fp16 in half the bytes, int8 in a quarter, top10 and "
        "top1 the largest tenth or hundredth of the values; what int8 and these lose goes into the node's next update",
    )
    checkpoint_codec: Literal["fp32", "bf16", "fp16", "int8"] | None = Field(
        default=None,
        description="how checkpoints travel, as differences too; what is lost there is lost: left out it is codec, and "
        "bf16 where that is coarser",
    )
    method: Literal["fedavg", "fednova", "scaffold"] = Field(
        default="fedavg",
        description="fednova evens out nodes that make different numbers of steps, scaffold data that differs between "
        "nodes; docs/methods.md has them all",
    )
    server_optimizer: Literal["none", "momentum", "adagrad", "adam", "yogi"] = Field(
        default="none", description="applied to the combined difference"
    )
    server_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="of the server optimizer: left out it is 0.05 with adam and yogi, 0.1 with adagrad, 1 with "
        "momentum and none",
    )
    server_momentum: float = Field(
        default=0.9, ge=0, le=0.9999, allow_inf_nan=False, description="of the server optimizer momentum"
    )
    server_beta1: float = Field(
        default=0.9, ge=0, le=0.9999, allow_inf_nan=False, description="of adagrad, adam and yogi: of the past steps"
    )
    server_beta2: float = Field(
        default=0.99, ge=0, le=0.9999, allow_inf_nan=False, description="of adam and yogi: of the past squares"
    )
    server_tau: float = Field(
        default=0.001,
        ge=1e-10,
        le=1e6,
        allow_inf_nan=False,
        description="of adagrad, adam and yogi: the larger, the less a step adapts to each parameter",
    )
    norm_max: float | None = Field(
        default=None, ge=1e-18, le=1e19, allow_inf_nan=False, description="updates with a larger L2 norm are refused"
    )

    @property
    def counts_by(self) -> str:
        """`weighting`, or what it is when left out."""
        return self.weighting or ("samples" if self.rule == "mean" else "uniform")

    @property
    def server_rate(self) -> float:
        """`server_learning_rate`, or what it is when left out."""
        if self.server_learning_rate is not None:
            return self.server_learning_rate
        return ADAPTIVE_RATES.get(self.server_optimizer, 1.0)

    @property
    def codec_of_checkpoints(self) -> str:
        """`checkpoint_codec`, or what it is when left out."""
        return self.checkpoint_codec or ("bf16" if self.codec in FEEDBACK_CODECS else self.codec)


class Evaluation(Wire):
    """When checkpoints are measured on the nodes' held-out data."""

    every: int = Field(default=1, ge=1, le=1_000_000, description="measure every so many rounds, and after the last")


class Updates(Wire):
    """Who may read single updates."""

    readers: Literal["aggregator", "members"] = Field(default="aggregator", description="who may fetch a node's update")


class Timing(Wire):
    """How fast a lost aggregator is noticed. Leave it unless nodes are far apart or very slow."""

    heartbeat_s: float = Field(
        default=1.0, ge=0.05, le=60, allow_inf_nan=False, description="the aggregator says that it lives this often"
    )
    election_timeout_s: float = Field(
        default=5.0, ge=0.15, le=600, allow_inf_nan=False, description="after such a silence another one is elected"
    )
    rank_step_s: float = Field(
        default=1.0,
        ge=0.01,
        le=60,
        allow_inf_nan=False,
        description="the next in rank stands for election so much later",
    )
    lost_after_s: float = Field(
        default=15.0,
        ge=0.15,
        le=86_400,
        allow_inf_nan=False,
        description="a round waits no longer for a node so silent",
    )
    leave_after_s: float = Field(
        default=120.0,
        ge=0.15,
        le=30 * 86_400,
        allow_inf_nan=False,
        description="one so silent leaves the roster and its vote; it is taken in again when it is back",
    )


class Keys(Wire):
    """What a person's configuration and a manifest have in common."""

    project: Name = Field(default="default", description="runs are listed by project …")
    experiment: Name = Field(default="default", description="… and experiment")
    tags: Annotated[tuple[Name, ...], Field(max_length=TAGS_MAX)] = Field(
        default=(), description="words to find the run by"
    )
    data: Data
    training: Training = Training()
    roster: Roster = Roster()
    round: Round = Round()
    aggregation: Aggregation = Aggregation()
    evaluation: Evaluation = Evaluation()
    updates: Updates = Updates()
    timing: Timing = Timing()
    audit: Literal["none", "spot", "full"] = Field(
        default="none",
        description="who recomputes checkpoints besides the aggregator: nobody, a fifth of the voters each round, or "
        "all of them before they acknowledge. Updates can then be read by all of the roster",
    )
    seed: int = Field(default=0, ge=0, lt=2**53, description="every random draw of the run follows from it")
