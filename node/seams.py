"""The four narrow interfaces through which a node sees the world: Network, Disk, Trainer, Record.

Each has a real and a simulated implementation, and one conformance suite under tests/ that both pass. Errors of the
libraries underneath never pass a seam: what comes through is declared here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from node.network.conduct import Conduct
from node.task_values import EvaluateResult as EvaluateResult
from node.task_values import InitialModel as InitialModel
from node.task_values import Predictions as Predictions
from node.task_values import StagedFile as StagedFile
from node.task_values import TaskOutput as TaskOutput
from node.task_values import TaskSpec as TaskSpec
from node.task_values import TrainResult as TrainResult
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId
from protocol.version import PROTOCOL_VERSION
from tracker.blobs.stored import StoredBlob, TakenBlob

T = TypeVar("T")

ENTRANCE_PROTOCOL = f"/fednode/entrance/{PROTOCOL_VERSION}"  # the only one that a stranger may speak
CONTROL_PROTOCOL = f"/fednode/control/{PROTOCOL_VERSION}"
BLOB_PROTOCOL = f"/fednode/blob/{PROTOCOL_VERSION}"
# What a node asks whose protocol the other end does not know: it has no version, and never changes (protocol.version).
VERSION_PROTOCOL = "/fednode/version"


class Unreachable(FednodeError):
    """The peer could not be reached within the deadline, or its door refused us (`refused` is then true). `tried`: each
    address, and what came of it."""

    def __init__(self, what: str, *, remedy: str, refused: bool = False, tried: Sequence[str] = ()) -> None:
        super().__init__(what, remedy=remedy)
        self.refused = refused
        self.tried = tuple(tried)


class StreamClosed(FednodeError):
    """The stream ended: closed, reset, the peer died, or a deadline passed. Nothing tells these apart for sure."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """A message heard on a topic. `peer` handed it to us; who wrote it is for the message itself to prove."""

    peer: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class PeerChange:
    """A peer's first connection came up, or its last went down."""

    peer: NodeId
    connected: bool


@dataclass(slots=True)
class TrafficCounters:
    """What went through this network, in bytes. `stranger_bytes` counts bytes from peers whom the door does not
    admit that reached any handler but the entrance's; it must stay 0."""

    bytes_sent: int = 0
    bytes_received: int = 0
    stranger_bytes: int = 0
    refused_at_door: int = 0


@dataclass(frozen=True, slots=True)
class PeerTraffic:
    """What the connections to one peer that there are now have carried, in bytes; how they go, and how blobs come."""

    bytes_sent: int = 0
    bytes_received: int = 0
    path: Literal["direct", "relayed", ""] = ""
    blobs_by: Literal["tls", "libp2p", ""] = ""


class Stream(Protocol):
    """A duplex, ordered, reliable stream of frames to one authenticated peer."""

    @property
    def peer(self) -> NodeId: ...

    async def send_frame(self, frame: bytes) -> None:
        """Hand `frame` over. Raises StreamClosed, also when the peer takes nothing for SEND_DEADLINE_S."""

    async def receive_frame(self, max_bytes: int) -> bytes:
        """The next frame. Waits without limit: put a deadline around it where the peer owes an answer.

        Raises StreamClosed at the end, and RemoteProtocolError (after a reset) for a frame over `max_bytes`."""

    async def close(self) -> None:
        """Say that nothing more will come, and let go. What was sent arrives. Never raises StreamClosed."""

    async def reset(self) -> None:
        """Drop the stream at once, both ways. Never raises StreamClosed."""


StreamHandler = Callable[[Stream], Awaitable[None]]


class Network(Protocol):
    """Streams to peers by name, and gossip. Closed to whom `admits` does not admit, but for the entrance."""

    @property
    def node_id(self) -> NodeId: ...

    @property
    def counters(self) -> TrafficCounters: ...

    @property
    def conduct(self) -> Conduct:
        """Where faults of peers are told: who makes too many is hung up on and refused for a while."""

    def trouble(self, peer: NodeId) -> str:
        """Why nothing goes between us and `peer` now: it is refused, or of another version; "" where neither is so."""

    def addresses(self) -> list[str]:
        """Where members can dial us, as multiaddresses without the peer id."""

    def entrance_addresses(self) -> list[str]:
        """Where strangers can knock."""

    def set_door(self, admits: Callable[[NodeId], bool]) -> None:
        """From now on let in, and dial, only peers for which `admits` is true; hang up on the others, and look again at
        whom each topic is for. The door starts closed to all."""

    def learn(self, peer: NodeId, addresses: Sequence[str], entrance_addresses: Sequence[str] = ()) -> None:
        """Remember where to dial `peer`; replaces what was known. Never blocks."""

    async def open(self, peer: NodeId, protocol: str) -> Stream:
        """A new stream to `peer`, dialling if need be: through the entrances for ENTRANCE_PROTOCOL, else through the
        doors. Raises Unreachable within DIAL_DEADLINE_S, and OtherVersion where the peer says that it speaks other
        versions than ours."""

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve `protocol`. A handler's exception resets that stream only."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip `data` (at most GOSSIP_BYTES_MAX). Best effort: anti-entropy makes good what is lost."""

    def subscribe(self, topic: str, readers: Callable[[NodeId], bool] = lambda peer: True) -> AsyncIterator[Gossip]:
        """Messages of others on `topic` from now on. The subscription ends when its iterator is closed.

        Only peers for which `readers` is true are told of the topic, get its messages and are heard on it."""

    def peer_changes(self) -> AsyncIterator[PeerChange]:
        """First the peers connected now, then every change."""

    def traffic(self, peer: NodeId) -> PeerTraffic:
        """What went between us and `peer`, strangers' entrance left out. Costs microseconds."""

    async def disconnect(self, peer: NodeId) -> None:
        """Close every connection to `peer`."""


class BlobReader(Protocol):
    """A verified blob: `chunk(i)` is checked against its hash on every read."""

    @property
    def size(self) -> int: ...

    @property
    def chunk_hashes(self) -> Sequence[bytes]: ...

    async def chunk(self, index: int) -> bytes: ...


class BlobWriter(Protocol):
    """A blob on its way in. Chunks may come in any order; `finish` makes all durable, then visible under its name."""

    def missing(self) -> list[int]: ...

    async def write_chunk(self, index: int, data: bytes) -> None:
        """Raises RemoteProtocolError when `data` does not have the hash that the chunk list promises."""

    async def chunk(self, index: int) -> bytes:
        """A chunk that came already, verified anew. Raises FednodeError where it is not here any more."""

    async def finish(self) -> None: ...

    async def abandon(self) -> None: ...


class EarlyWriter(Protocol):
    """What comes of a blob whose name is not known yet. It proves nothing, and is nowhere to be found."""

    async def write_chunk(self, index: int, data: bytes) -> None:
        """Raises RemoteProtocolError when `data` is longer or shorter than a chunk is there."""

    async def become(self, blob: BlobId) -> None:
        """Let `receive_blob` look which of it are chunks of `blob`, as if these had come before. It is over then."""

    async def abandon(self) -> None:
        """Delete it."""


class Disk(Protocol):
    """Durable bytes. What a method has returned from survives a crash; what it has not is there whole or not at all."""

    async def read(self, name: str) -> bytes | None:
        """A small file's content, or None. `name` is a relative path of plain segments."""

    async def write(self, name: str, data: bytes) -> None:
        """Replace a small file, atomically, mode 0600."""

    async def delete(self, name: str) -> None: ...

    async def append(self, journal: str, record: bytes) -> None:
        """Add `record` to a journal, durably."""

    async def records(self, journal: str) -> list[bytes]:
        """A journal's intact records in order. A torn or corrupted tail is cut off, on disk too."""

    async def record(self, journal: str, index: int) -> bytes | None:
        """The record of that number, from 0; None after the last. For who needs a few of a long journal."""

    async def put_blob(self, source: bytes | Path) -> BlobId:
        """Store bytes, or a file's content, as a blob. Storing the same again changes nothing."""

    async def take_blob(self, file: Path, *, may_change: bool = False, only_as: BlobId | None = None) -> TakenBlob:
        """Store a file that is given away: moved, not copied, where that can be, and gone whatever comes of it.
        `may_change`: its maker may have it open still. `only_as`: under another name it is not stored."""

    async def has_blob(self, blob: BlobId) -> bool: ...

    async def open_blob(self, blob: BlobId) -> BlobReader:
        """Raises FednodeError when it is not here, or its chunk list is damaged."""

    async def read_blob(self, blob: BlobId) -> bytes:
        """The whole blob, verified. Only for what is known to be small, or needed in memory anyway."""

    async def blob_data(self, blob: BlobId) -> bytes | Path:
        """The blob for reading piece by piece, any number of times: its bytes, or the file that holds nothing else.

        Whoever wrote the file had it verified; what must be proven anew reads by `open_blob`."""

    def scratch(self) -> Path | None:
        """A folder for large files on their way to `put_blob`, emptied at every start; None: keep them in memory."""

    async def receive_blob(self, blob: BlobId, chunk_hashes: Sequence[bytes], size: int) -> BlobWriter:
        """Begin, or take up again, a blob from elsewhere. Raises RemoteProtocolError when the list is not `blob`'s."""

    async def receive_early(self, size: int) -> EarlyWriter:
        """Begin what comes of a blob of `size` bytes, named later. A restart deletes it. Raises as `receive_blob`."""

    async def delete_blob(self, blob: BlobId) -> None: ...

    async def stored_blobs(self) -> list[StoredBlob]:
        """Everything under a blob's name, whole or half."""

    async def discard_blob(self, blob: BlobId, unused_s: float) -> int:
        """Delete a blob unless it was stored, or asked for with `has_blob`, within the last `unused_s` seconds: who was
        told that it is here finds it. Gives the bytes freed."""


class Keep(Protocol):
    """Takes an artifact in, out of the session's folder. Says what it leaves out, and raises nothing for it."""

    async def __call__(self, artifact: TaskOutput, folder: Path) -> None: ...


class TrainerFailed(FednodeError):
    """The task's code raised, hung, ran out of memory or was killed. `traceback` is for its owner's eyes, `brief` for
    others': the exception's kind and place, without its message; empty where `what` has no words but fednode's own."""

    def __init__(self, what: str, *, remedy: str, traceback: str = "", brief: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.traceback = traceback
        self.brief = brief


class CodedFile(Protocol):
    """An update on its way out of its codec."""

    async def read(self, offset: int, length: int) -> bytes:
        """Raises FednodeError when so much is not there (any more)."""

    def close(self) -> None: ...


class CodedUpdate(Protocol):
    """Hears how far an update is coded."""

    def begin(self, size: int, file: CodedFile) -> None:
        """It will have `size` bytes. Whoever hears this closes the file."""

    def grew(self, upto: int) -> None:
        """So many of its bytes, from the beginning, are what they will be. Nothing before `begin` counts."""


class TaskSession(Protocol):
    """One run's task on this node, kept warm between rounds. One call at a time. Every call raises TrainerFailed."""

    async def initial_model(self) -> InitialModel: ...

    async def train(
        self,
        round_number: int,
        schema: bytes,
        model: bytes | Path,
        server_state: bytes | Path = b"",
        coded: CodedUpdate | None = None,
    ) -> TrainResult:
        """Train from `model`. `round_number` and the spec's seed alone decide the random draws. `server_state` is the
        base checkpoint's, for methods that look into it. `coded` hears of a large update while it is coded."""

    async def evaluate(self, round_number: int, schema: bytes, model: bytes | Path) -> EvaluateResult | None:
        """`model` on this node's held-out data; None where there is none."""

    async def predict(self, round_number: int, schema: bytes, model: bytes | Path) -> Predictions:
        """What `model` says of the held-out data, or of all where none is held out. The file lasts until `close`."""

    async def close(self) -> None:
        """End it. Nothing of it stays behind."""


class Trainer(Protocol):
    """Where tasks run: worker processes, or this process in a simulation."""

    async def open(self, spec: TaskSpec, say: Callable[[TaskOutput], None], keep: Keep | None = None) -> TaskSession:
        """Load the task and its data. `say` is called, in the node's thread, with all that its code says, and `keep`
        with the artifacts; without `keep` these are left out. A call's artifacts are kept before it ends."""

    async def offload(self, work: Callable[[], Any]) -> Any:
        """Run a pure function of fednode's own that takes long, without holding up the node."""

    async def forget(self, run_id: str) -> None:
        """Delete what this participant kept for a run that has ended. No session of it may be open."""

    async def carry_on(self, run_id: str, round_number: int, update: BlobId, *, used: bool) -> None:
        """What the last training left to be carried on belongs to this update, which nobody has heard of yet; or, once
        a committed checkpoint has `used` it, counts. Saying it twice changes nothing. Raises FednodeError."""

    async def offered_rounds(self, run_id: str) -> Sequence[int]:
        """The rounds whose updates' states may come to count still, oldest first."""


class Record(Protocol):
    """The node's record of what happened. Adding never blocks and never fails for the caller.

    `trouble`: why nothing is written now, for people; empty where all is well.
    `tells_of_others`: whether it keeps what this node hears of how others stand. Where nodes share a record, all are
    there to speak for themselves.
    """

    tells_of_others: bool
    trouble: str

    def add(self, *rows: Any) -> None:
        """Take rows (dataclasses of tracker.tables.rows); they are durable after at most a flush interval."""

    def add_once(self, key: tuple[str | bytes, ...], rows: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """Take rows that every node which hears of the same thing, named by `key`, makes alike.

        Gives them; or nothing, and makes none, where nodes share a record and another has given it these."""

    async def flush(self) -> None:
        """All rows added before are durable, and seen by queries, when this returns."""

    async def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """A named query of tracker.queries.queries."""

    async def change(self, work: Callable[[Any], T]) -> T:
        """Change what is kept by `work`, all or nothing; it is given the store's connection, for tracker's functions.

        Raises FednodeError when the disk says no."""

    async def sql(self, statement: str, rows_max: int) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        """A read-only statement of a person's. Columns, rows, and whether rows were cut off at `rows_max`."""
