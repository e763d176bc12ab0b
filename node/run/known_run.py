"""A run that this node knows from its group's log, with what this node has decided about it."""

from dataclasses import dataclass, field

import msgpack
import trio

from node.membership.group_place import GroupPlace
from node.run.chronicle import Chronicle
from node.run.driver import RunDriver
from node.run.history import RunHistory
from node.run.watch import RunWatch
from node.seams import Disk
from protocol.errors import FednodeError
from protocol.group.state import RunEntry
from protocol.keys import NodeId, RunId
from protocol.manifest.manifest import Manifest
from protocol.run.ledger import Ledger

# After the disk said no: people make room within minutes, and each try costs a reading of the run's journal.
TAKE_UP_AGAIN_S = 30.0


@dataclass(slots=True)
class Decision:
    """`ready` is our signed note, once accepted. `data` names our data set, empty for an observer."""

    decision: str = "undecided"  # or "accepted", "declined"
    reason: str = ""
    data: str = ""
    ready: bytes = b""


@dataclass(slots=True)
class KnownRun:
    """Everything about one run but its protocol. `answers` and `declined` are what the proposer has been told."""

    run_id: RunId
    place: GroupPlace
    entry: RunEntry
    manifest: Manifest
    chronicle: Chronicle
    decision: Decision = field(default_factory=Decision)
    driver: RunDriver | None = None
    history: RunHistory | None = None
    watch: RunWatch | None = None  # in place of the driver, where we do not take part
    answers: dict[NodeId, bytes] = field(default_factory=dict)
    declined: dict[NodeId, str] = field(default_factory=dict)
    news: trio.Event = field(default_factory=trio.Event)  # set, and replaced, when an answer comes
    starting: bool = False
    taking_up: bool = False  # its driver is being made: a second one would vote a second time
    over: bool = False  # without ever having started

    @property
    def name(self) -> str:
        return self.manifest.name

    def tell_news(self) -> None:
        """Wake whoever waits for answers."""
        self.news.set()
        self.news = trio.Event()

    def stop_watching(self) -> None:
        """We take part now."""
        if self.watch is not None:
            self.watch.over.set()
            self.watch = None

    @property
    def ledger(self) -> Ledger | None:
        """What this node holds of the run's chain, be it only the heads; None before the start."""
        if self.driver is not None:
            return self.driver.machine.ledger
        return self.watch.ledger if self.watch is not None else None

    @property
    def is_over(self) -> bool:
        """Whether nothing will be trained in it here any more."""
        if self.watch is not None and self.watch.over.is_set():
            return True
        return self.over or (self.driver is not None and self.driver.machine.ledger.has_ended)

    def uses(self, data: str) -> bool:
        """Whether a data set of ours is trained on in it, or will be once it starts."""
        return self.decision.decision == "accepted" and self.decision.data == data and not self.is_over

    async def save_decision(self, disk: Disk) -> None:
        decision = self.decision
        packed = msgpack.packb([decision.decision, decision.reason, decision.data, decision.ready])
        await disk.write(_decision_file(self.run_id), packed)

    async def load_decision(self, disk: Disk) -> None:
        raw = await disk.read(_decision_file(self.run_id))
        if raw is not None:
            self.decision = Decision(*msgpack.unpackb(raw))


def _decision_file(run: RunId) -> str:
    return f"run-{run}.decision"


def why_it_ended(error: BaseException) -> tuple[str, bool]:
    """Why our part in a run has ended, for people, and whether that is an error in fednode itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FednodeError):  # the disk, most likely
        return f"{error.what}; {error.remedy}; it is tried again every {TAKE_UP_AGAIN_S:g} s", False
    return f"an error in fednode itself: {type(error).__name__}: {error}; restart the node to take part again", True
