"""What a node tells of its runs, as frozen values. docs/api.md says what each field means."""

from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, measure, moment, name_of, number, text

STATES_ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})


@dataclass(frozen=True, slots=True)
class Participant:
    """One node's part in one run."""

    node_id: str
    name: str = ""
    state: str = ""
    reason: str = ""
    round: int = 0
    samples: int = 0
    voter: bool = False

    @classmethod
    def of(cls, source: Json) -> "Participant":
        return cls(
            node_id=text(source, "node_id"),
            name=name_of(source, "name", "node_id"),
            state=text(source, "state"),
            reason=text(source, "reason"),
            round=number(source, "round"),
            samples=number(source, "samples"),
            voter=source.get("voter") is True,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One run as far as our node knows it."""

    run_id: str
    name: str = ""
    project: str = ""
    experiment: str = ""
    task: str = ""
    data: str = ""
    proposer_name: str = ""
    state: str = ""
    reason: str = ""
    note: str = ""
    round: int = 0
    rounds: int = 0
    term: int = 0
    aggregator: str = ""
    aggregator_name: str = ""
    elections: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    accuracy: float | None = None
    loss: float | None = None
    measured_by: int = 0  # so many nodes' held-out data these two are of, and so many take part; 0 where not told
    measured_of: int = 0
    seconds_left: float | None = None
    decision: str = ""
    bytes_moved: int = 0  # for its rounds, as recorded; the two below since the node's start
    bytes_sent: int = 0
    bytes_received: int = 0
    participants: tuple[Participant, ...] = ()
    liars: tuple[tuple[str, str], ...] = ()  # names, and what they did as aggregators

    @property
    def ended(self) -> bool:
        return self.state in STATES_ENDED

    @property
    def seconds(self) -> float | None:
        """How long it took, once it is over."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None

    @property
    def measured_text(self) -> str:
        """Of whose data the figures are, where they are not of everybody's."""
        return f"{self.measured_by} of {self.measured_of} nodes" if 0 < self.measured_by < self.measured_of else ""

    @property
    def asks_us(self) -> bool:
        """It waits for this node's owner to accept or decline."""
        return self.decision == "undecided" and not self.ended

    @classmethod
    def of(cls, source: Json) -> "Run":
        participants = tuple(map(Participant.of, items(source, "participants")))
        names = {each.node_id: each.name for each in participants}
        deposed = [(text(each, "node_id"), text(each, "reason")) for each in items(source, "deposed")]
        return cls(
            run_id=text(source, "run_id"),
            name=text(source, "name") or text(source, "run_id")[:8],
            project=text(source, "project"),
            experiment=text(source, "experiment"),
            task=text(source, "task"),
            data=text(source, "data"),
            proposer_name=name_of(source, "proposer_name", "proposer"),
            state=text(source, "state"),
            reason=text(source, "reason"),
            note="" if text(source, "state") in STATES_ENDED else text(source, "note"),  # what it waited for
            round=number(source, "round"),
            rounds=number(source, "rounds"),
            term=number(source, "term"),
            aggregator=text(source, "aggregator"),
            aggregator_name=name_of(source, "aggregator_name", "aggregator"),
            elections=number(source, "elections"),
            created_at=moment(source, "created_at"),
            started_at=moment(source, "started_at"),
            ended_at=moment(source, "ended_at"),
            accuracy=measure(source, "accuracy"),
            loss=measure(source, "loss"),
            measured_by=number(source, "measured_by"),
            measured_of=number(source, "measured_of"),
            seconds_left=measure(source, "seconds_left"),
            decision=text(source, "decision"),
            bytes_moved=number(source, "bytes_moved"),
            bytes_sent=number(source, "bytes_sent"),
            bytes_received=number(source, "bytes_received"),
            participants=participants,
            liars=tuple((names.get(node) or node[:14], reason) for node, reason in deposed),
        )


def is_set_aside(reason: str) -> bool:
    """It is the rule's choice, as Krum's of all updates but one, and nobody's fault."""
    return reason.startswith("set-aside")


@dataclass(frozen=True, slots=True)
class Round:
    """One committed round. `refused`: who was refused and why, one text each; `aside`: whose update was fit, and the
    rule took nothing of it."""

    round: int
    term: int = 0
    aggregator: str = ""
    committed_at: datetime | None = None
    updates_used: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    aside: tuple[str, ...] = ()
    bytes: int = 0
    seconds: float | None = None
    audited: int = 0
    checkpoint: str = ""
    model: str = ""

    @classmethod
    def of(cls, source: Json) -> "Round":
        told = [(text(r, "node_id"), text(r, "reason")) for r in items(source, "updates_refused")]
        return cls(
            round=number(source, "round"),
            term=number(source, "term"),
            aggregator=text(source, "aggregator"),
            committed_at=moment(source, "committed_at"),
            updates_used=number(source, "updates_used"),
            refused=tuple(entry for entry in told if not is_set_aside(entry[1])),
            aside=tuple(node for node, reason in told if is_set_aside(reason)),
            bytes=number(source, "bytes"),
            seconds=measure(source, "seconds"),
            audited=number(source, "audited"),
            checkpoint=text(source, "checkpoint"),
            model=text(source, "model"),
        )


def rounds_of(answer: Json) -> tuple[Round, ...]:
    """The rounds that an answer of /v1/runs/{run}/rounds has, the newest first."""
    return tuple(sorted(map(Round.of, items(answer, "rounds")), key=lambda each: each.round, reverse=True))


def commits_of(answer: Json) -> dict[int, float]:
    """When the rounds of such an answer were committed, in seconds since 1970."""
    return {each.round: each.committed_at.timestamp() for each in rounds_of(answer) if each.committed_at}
