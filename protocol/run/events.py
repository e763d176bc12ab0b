"""What goes into a run's machine and what comes out of it: plain values, so that a driver of any kind can carry them.

The driver hands events in, one at a time with the time, and carries the outputs out in their order. A `Persist` is
durable before anything after it is carried out. docs/protocol.md §6.
"""

from dataclasses import dataclass
from typing import Literal

from protocol.keys import BlobId, Hash, NodeId
from protocol.limits import ROSTER_NODES_MAX
from protocol.run.checkpoint import Checkpoint, Offer, Outcome, Span, UpdateEntry
from protocol.run.directions import Directions
from protocol.run.messages import RunMessage

# A participant's state on the wire, a letter each: small enough to send all of them with every heartbeat.
STATE_LETTERS = {
    "R": "READY",
    "T": "TRAINING",
    "U": "UPLOADING",
    "W": "WAITING",
    "L": "LOST",
    "F": "FINISHED",
    "X": "FAILED",
}
REFUSED_BEGINS = "update refused: "  # the reason of who has just had an update refused


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run's machine needs of the manifest. Seconds are of the clock that the driver hands in."""

    rounds: int
    nodes_max: int = ROSTER_NODES_MAX  # nobody is taken in beyond so many
    fraction: float = 1.0
    updates_min: int = 1
    round_deadline_s: float = 600.0
    round_deadline_min_s: float | None = None  # None: the deadline does not adapt
    late_are_used: bool = False
    evaluate_every: int = 1
    heartbeat_s: float = 1.0  # several fit into an election timeout, so one lost message elects nobody
    election_timeout_s: float = (
        5.0  # above the pauses of a busy machine (measured: below 2 s with both cores saturated)
    )
    rank_step_s: float = 1.0  # the next in rank waits this much longer: longer than an election takes
    lost_after_s: float = 15.0  # a silent node is waited for no more; it is taken back when it speaks
    audit: Literal["none", "spot", "full"] = "none"
    leave_after_s: float = 120.0  # one so silent leaves the roster, and its vote; longer than any restart takes


# --- events ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Began:
    """The driver is up: first of all events, after a restart too."""


@dataclass(frozen=True, slots=True)
class Received:
    peer: NodeId
    message: RunMessage


@dataclass(frozen=True, slots=True)
class Timer:
    name: str


@dataclass(frozen=True, slots=True)
class Obtained:
    """An `Obtain` ended: all of the checkpoint is durable here, or not; but for its server state where that was said
    to be needless."""

    checkpoint: Hash
    ok: bool
    may_lack_state: bool = False


@dataclass(frozen=True, slots=True)
class Collected:
    """A `Collect` ended. `refused` is empty when the update is here, whole and in order, else a code."""

    offer: Hash
    refused: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Combined:
    """A `Combine` ended: what the new checkpoint consists of, all durable. `failed` says why it could not be made."""

    round: int
    term: int
    model: str = ""
    difference: str = ""
    server_state: str = ""
    entries: tuple[UpdateEntry, ...] = ()
    exponents: tuple[int, ...] = ()
    parameters: int = 0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """A `Train` ended: the update is durable and this is the offer of it, not yet signed."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class CodingBegan:
    """Of a `Train` that goes on, the update is being coded, and can be given as far as it is."""

    round: int
    base: Hash


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """A `Train` failed. Where that is not `for_good`, for there is no room here, we take part again by ourselves."""

    round: int
    reason: str
    for_good: bool = True


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An `Evaluate` ended; without samples there was nothing to measure on. `spans` are not told yet to anybody."""

    round: int
    checkpoint: Hash
    samples: int
    metrics: dict[str, float]
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A `Recompute` ended. `verdict` is empty when the checkpoint is what its updates give, else it says how it
    differs; None when that could not be found out."""

    checkpoint: Hash
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Directed:
    """What the group's log asks of the run now."""

    directions: Directions


RunEvent = (
    Began
    | Received
    | Timer
    | Obtained
    | Collected
    | Combined
    | CodingBegan
    | Trained
    | TrainingFailed
    | Evaluated
    | Recomputed
    | Directed
)


# --- outputs -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Persist:
    """Append `record` to the run's journal, durably, before carrying out what follows."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Hand `message` to `peer`, best effort: the machine repeats what matters."""

    peer: NodeId
    message: RunMessage


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Give back `Timer(name)` after so many seconds, in place of an earlier one of that name."""

    name: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Obtain:
    """Make the checkpoint durable here, its blobs fetched from `sources` or made from what is here; answer `Obtained`.

    `previous` is the checkpoint it builds on, when this node has that whole. `may_lack_state`: nothing builds on it,
    so where nobody gives its server state it is had without.
    """

    name: Hash
    checkpoint: Checkpoint
    previous: Checkpoint | None
    sources: tuple[NodeId, ...]
    may_lack_state: bool = False


@dataclass(frozen=True, slots=True)
class Collect:
    """Fetch the offered update from its node and check it; answer `Collected`."""

    name: Hash
    offer: Offer


@dataclass(frozen=True, slots=True)
class FetchEarly:
    """Fetch what there is of an update that `node` still codes, by its early name. Nobody waits for it, and nothing is
    answered."""

    node: NodeId
    name: BlobId
    learned_from: Hash
    base: Checkpoint


@dataclass(frozen=True, slots=True)
class Combine:
    """Combine the updates of these signed offers with `base`; answer `Combined`."""

    round: int
    term: int
    base: Checkpoint
    offers: tuple[bytes, ...]
    refused: tuple[UpdateEntry, ...]


@dataclass(frozen=True, slots=True)
class Recompute:
    """Make a checkpoint anew from `previous` and the updates that it lists, which their nodes and `sources` have;
    answer `Recomputed`."""

    name: Hash
    checkpoint: Checkpoint
    previous: Checkpoint
    sources: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Train:
    """Train a round from a committed checkpoint; answer `Trained` or `TrainingFailed`."""

    round: int
    name: Hash
    base: Checkpoint


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure a committed checkpoint on our own held-out data; answer `Evaluated`."""

    name: Hash
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Elected:
    """For the record: `aggregator` reigns in `term`, or (None) nobody is known to."""

    term: int
    aggregator: NodeId | None


@dataclass(frozen=True, slots=True)
class Committed:
    """For the record: this checkpoint is final and durable here."""

    name: Hash
    checkpoint: Checkpoint
    term: int


@dataclass(frozen=True, slots=True)
class Measured:
    """For the record: measurements as their nodes signed them. The driver must count each (node, round) once."""

    reports: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ParticipantState:
    """For the record: where `node` is in the run."""

    node: NodeId
    state: str
    round: int
    reason: str = ""

    @property
    def tells_of_a_refusal(self) -> bool:
        """Whether the aggregator has just refused an update of the node."""
        return self.reason.startswith(REFUSED_BEGINS)


@dataclass(frozen=True, slots=True)
class Note:
    """For people: what is the matter now, such as what the run waits for. Empty when nothing is."""

    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """For people and for the record: two signed statements of one node that cannot both be honest."""

    node: NodeId
    what: str
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """For the log: `peer` said something that the protocol forbids, and it was dropped."""

    peer: NodeId
    what: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended so, here and everywhere; the machine goes on answering who missed it. With it ends the part of
    everybody in `roster`."""

    outcome: Outcome
    reason: str
    roster: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WentOn:
    """The run had ended, and goes on: it was resumed or extended."""


RunOutput = (
    Persist
    | Send
    | SetTimer
    | Obtain
    | Collect
    | FetchEarly
    | Combine
    | Recompute
    | Train
    | Evaluate
    | Elected
    | Committed
    | Measured
    | ParticipantState
    | Note
    | Evidence
    | Misbehaved
    | Ended
    | WentOn
)
