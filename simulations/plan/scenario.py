"""What a scenario says: which nodes, which network, what goes wrong when, who lies, and what must come of it.

The keys of a scenario file, each once, with its type, bounds, default and meaning. simulations.plan.read reads it.
Times are seconds of virtual time after the run has started.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from protocol.wire import Wire

NODES_MAX = 1000  # beyond this the records of every node about every other need more memory than a laptop has
ROUNDS_MAX = 10_000
ENTRIES_MAX = 64  # of cohorts, links, faults: what somebody can still read
VIRTUAL_S_MAX = 30 * 86_400.0  # what takes longer than a month is a mistake in units

Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9-]*$")]
Seconds = Annotated[float, Field(ge=0, le=VIRTUAL_S_MAX, allow_inf_nan=False)]
LineRate = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

TrainerLie = Literal["nan", "huge-norm", "sign-flip", "noise", "loud-noise", "scaled", "zeros"]
AggregatorLie = Literal["wrong-sum", "dropped-update", "two-checkpoints"]
MemberLie = Literal["fork", "backdate", "flood", "garbage"]
StrangerTrick = Literal["noise", "flood", "replay", "forged-token", "revoked-token", "expired-token", "used-token"]
FaultKind = Literal[
    "kill", "freeze", "cut", "deafen", "isolate", "partition", "flap", "slow-link", "slow-disk", "full-disk",
    "corrupt-blob", "remove", "revoke",
]  # fmt: skip
Phase = Literal[
    "voted", "elected", "reissued", "offered", "received", "proposed", "stored", "acknowledged", "committed",
    "announced",
]  # fmt: skip


class Profile(Wire):
    """How one direction between two nodes is."""

    latency_s: Seconds = Field(default=0.02, description="of one way")
    jitter_s: Seconds = Field(default=0.005, description="added to the latency, uniformly")
    bytes_per_s: float = Field(default=50e6, ge=1000, le=1e12, allow_inf_nan=False, description="bandwidth")
    stream_break: Share = Field(default=0.0, description="chance, at each frame, that its stream breaks")
    gossip_loss: Share = Field(default=0.0, description="chance that a gossip message does not arrive")
    gossip_duplicate: Share = Field(default=0.0, description="chance that a gossip message arrives twice")
    gossip_delay_s: Seconds = Field(default=0.05, description="added to gossip, uniformly: later overtakes earlier")


class Link(Profile):
    """The wires from some nodes to others, where they are not as the rest."""

    source: str = Field(default="all", description="a node, a cohort, or all")
    target: str = Field(default="all", description="a node, a cohort, or all")
    both_ways: bool = Field(default=True, description="whether the other direction is the same")
    only_source_dials: bool = Field(
        default=False, description="whether target cannot open a connection, as from outside to behind a NAT"
    )


class Cohort(Wire):
    """Nodes that are alike. Who is in no cohort is as the defaults say."""

    name: Name = Field(description="what faults, links and checks call them")
    count: int | None = Field(default=None, ge=1, le=NODES_MAX, description="how many nodes; give this or share")
    share: Share | None = Field(default=None, description="of all nodes, at least one")
    samples_per_s: float = Field(
        default=2000.0, gt=0, le=1e9, allow_inf_nan=False, description="how fast they train, in samples a second"
    )
    data: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False, description="what they keep of a node's share")
    disk_write_s: Seconds = Field(default=0.0, description="what a durable write takes")
    up_bits_per_s: LineRate = Field(default=0.0, description="of a node's line, over all that it sends; 0: no limit")
    down_bits_per_s: LineRate = Field(default=0.0, description="of all that it receives; 0: no limit")
    join_at_s: Seconds = Field(default=0.0, description="when they join the group; 0: they are in it from the start")
    join_every_s: Seconds = Field(default=0.0, description="between one joining and the next")
    leave_at_s: Seconds = Field(default=0.0, description="when they go for good; 0: never")
    role: Literal["member", "admin"] = Field(default="member", description="what they are in the group from the start")
    one_member: bool = Field(default=False, description="whether they are nodes of one member; else each has its own")
    token: str = Field(
        default="", max_length=40, description="joiners of cohorts that give one word share a token good for one use"
    )
    lies: TrainerLie | AggregatorLie | MemberLie | None = Field(default=None, description="how they cheat")
    lies_from_round: int = Field(default=1, ge=1, le=ROUNDS_MAX, description="the first round that they cheat in")

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if (self.count is None) == (self.share is None):
            raise PydanticCustomError("conflict", "give either count or share")
        return self


class FaultKeys(Wire):
    """Something that goes wrong: at a time, at a phase of a round, or at random so often a minute."""

    kind: FaultKind = Field(description="what happens")
    node: str = Field(
        default="random",
        description="to whom: node-3, a cohort, several with + between, aggregator, random, each (one by one) or all",
    )
    share: Share = Field(default=0.0, description="of all nodes, how many at once where node is random; 0: one")
    peer: str = Field(default="random", description="of cut and deafen: the other end")
    by: str = Field(default="", description="of remove and revoke: whose node does it; left out: the first that may")
    knocks: bool = Field(default=False, description="of remove and revoke: whether its key goes on knocking")
    at_s: Seconds | None = Field(default=None, description="when")
    every_s: Seconds | None = Field(default=None, description="again and again, so many seconds apart")
    until_s: Seconds = Field(default=0.0, description="the end of every_s and per_minute")
    phase: Phase | None = Field(default=None, description="or when a round first comes so far")
    round: int | None = Field(default=None, ge=0, le=ROUNDS_MAX, description="of phase; left out: every round")
    per_minute: float | None = Field(
        default=None, gt=0, le=600, allow_inf_nan=False, description="or at random, so often on average"
    )
    after_s: Seconds = Field(default=0.05, description="how long after its phase")
    for_s: Seconds | tuple[Seconds, Seconds] = Field(
        default=10.0, description="how long; two numbers: drawn between them; 0: for ever"
    )
    silent: bool = Field(default=False, description="of cut, isolate and partition: without an error, as a black hole")
    aggregator_in: Literal["minority", "majority", "either"] = Field(
        default="either", description="of partition: on which side the aggregator is"
    )
    minority: Share = Field(default=0.4, description="of partition: the smaller side's share of the nodes")
    value: Seconds = Field(default=1.0, description="slow-disk: seconds a write; slow-link: latency; flap: period")

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        given = [name for name in ("at_s", "phase", "per_minute") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError("conflict", "give one of at_s, phase and per_minute")
        if (self.per_minute is not None or self.every_s is not None) and not self.until_s:
            raise PydanticCustomError("conflict", "every_s and per_minute need until_s")
        if self.every_s == 0:
            raise PydanticCustomError("conflict", "every_s must be above 0")
        if self.phase is None and self.round is not None:
            raise PydanticCustomError("conflict", "round goes with phase")
        return self


class Checks(Wire):
    """What must have come of it. Invariants are checked in any case."""

    outcome: Literal["finished", "stopped", "failed", "any"] = Field(default="finished", description="the run's end")
    accuracy_min: Share | None = Field(default=None, description="over all nodes' held-out data, at the end")
    rounds_min: int | None = Field(default=None, ge=0, le=ROUNDS_MAX, description="rounds committed")
    elections_max: int | None = Field(default=None, ge=1, le=1_000_000, description="aggregators that reigned")
    refused: tuple[str, ...] = Field(default=(), description="cohorts or nodes whose every update was refused")
    refused_as: str = Field(default="", description="the code of those refusals")
    only_refused: bool = Field(default=True, description="whether nobody else's update may have been refused")
    commit_within_s: Seconds | None = Field(default=None, description="the next commit, after each fault's end")
    virtual_s_max: Seconds | None = Field(default=None, description="how long it may take")
    deposed: tuple[str, ...] = Field(default=(), description="who must have been deposed, having lied")
    out: tuple[str, ...] | None = Field(
        default=None, description="who must be out of the group in the end, and no others"
    )
    members: int | None = Field(default=None, ge=1, le=NODES_MAX, description="how many the group must have in the end")


class Scenario(Wire):
    """One scenario file."""

    title: str = Field(min_length=1, max_length=120, description="one line for the list")
    nodes: int = Field(default=8, ge=1, le=NODES_MAX, description="how many, unless --nodes says")
    alpha: float = Field(
        default=0.5, gt=0, le=1000, allow_inf_nan=False, description="how even the digits are dealt: smaller, less"
    )
    virtual_max_s: Seconds = Field(default=7 * 86_400.0, description="when a simulation that hangs is ended")
    placed: bool = Field(default=True, description="whether nodes begin as members; false: they join one by one")
    network: Profile = Profile()
    link: Annotated[tuple[Link, ...], Field(max_length=ENTRIES_MAX)] = Field(default=())
    cohort: Annotated[tuple[Cohort, ...], Field(max_length=ENTRIES_MAX)] = Field(default=())
    fault: Annotated[tuple[FaultKeys, ...], Field(max_length=ENTRIES_MAX)] = Field(default=())
    strangers: int = Field(
        default=0, ge=0, le=ENTRIES_MAX, description="nodes of nobody's group that knock, talk and gossip all the time"
    )
    tricks: Annotated[tuple[StrangerTrick, ...], Field(min_length=1, max_length=ENTRIES_MAX)] = Field(
        default=("noise",), description="what strangers do: the first the first of these, and so on"
    )
    checks: Checks = Checks()
    run_file: str = Field(default="", max_length=1000, description="a configuration beside this file")
    run: dict[str, Any] = Field(default={}, description="the configuration itself, or keys that count instead")
