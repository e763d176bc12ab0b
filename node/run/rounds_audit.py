"""The owner's audit: committed rounds of a run, made anew from the updates that are still to be had.

Decides what an owner can be told of a round: that it agrees, bit for bit, with what its updates give; how it differs;
or why that cannot be said. Nobody is accused for it and nothing is decided by it: it looks back at what is committed,
where auditors (docs/protocol.md §8.18) look before. Updates are asked of others only where the manifest lets nodes
read them, and what was fetched for the audit alone is deleted after it.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from node.network.bulk.bulk import Bulk
from node.run.audit import RunAudit
from node.run.blobs import RunBlobs
from node.run.data import RunData
from node.run.known_run import KnownRun
from node.run.plan import are_updates_shared
from node.run.round_blobs import RoundBlobs
from node.run.spans import Spans
from node.seams import Disk, Trainer
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId, Hash, NodeId
from protocol.limits import BLOB_BYTES_MAX
from protocol.run.checkpoint import COMPARED, Checkpoint, checkpoint_name, open_checkpoint, open_offer
from protocol.run.events import Recompute

# Words for every round alike, so that those of many rounds can be told together.
GONE = (
    "what it was made from is not to be had any more: updates are kept until the round after theirs is committed, "
    "and no longer"
)
NOT_SHARED = (
    "its updates are not here, and are kept for nobody: the run's configuration gives them to the aggregator alone, "
    'who deletes them when the round is committed (audit = "none", updates.readers = "aggregator")'
)
WHEN_TO_ASK = "audit a round while it is the newest"
AUDITED_ROUNDS_MAX = 1000  # the newest, in one answer; older ones by their number

AUDIT = "audit"  # as which what an audit works with is claimed

Verdict = Literal["agrees", "differs", "unknown"]


@dataclass(frozen=True, slots=True)
class RoundVerdict:
    """What an audit found of one round. `why` it differs, or cannot be said; empty where it agrees."""

    round: int
    checkpoint: Hash
    aggregator: NodeId
    used: int
    refused: int
    verdict: Verdict
    why: str


class RoundsAudit:
    """Audits runs of this node, one at a time. `of_rounds`: what its runs work with."""

    def __init__(self, me: NodeId, disk: Disk, bulk: Bulk, trainer: Trainer, of_rounds: RoundBlobs) -> None:
        self._me = me
        self._disk = disk
        self._bulk = bulk
        self._trainer = trainer
        self._of_rounds = of_rounds

    async def look(self, known: KnownRun, round_number: int | None = None) -> list[RoundVerdict]:
        """A verdict on every committed round, the newest first, or on one. Of many rounds, those before the newest that
        cannot be said are judged by what is here, and nobody is asked for them.

        Raises Refused where this node takes no part in the run, or no such round is committed."""
        if known.driver is None:
            raise Refused(
                "not-in-run",
                "This node takes no part in the run, and cannot read its updates",
                remedy="ask one that does",
            )
        verdicts: list[RoundVerdict] = []
        ask = True
        async for name, checkpoint, previous in _chain(known):
            if round_number is not None and checkpoint.round != round_number:
                continue
            verdict, why = await self._judge(known, name, checkpoint, previous, ask=ask)
            verdicts.append(_told(name, checkpoint, verdict, why))
            ask = ask and verdict != "unknown"
            if round_number is not None or len(verdicts) == AUDITED_ROUNDS_MAX:
                break
        if not verdicts:
            which = "no round" if round_number is None else f"no round {round_number}"
            raise Refused(
                "no-such-round", f"The run has {which} that is committed and known here", remedy="wait for it"
            )
        return verdicts

    async def _judge(
        self, known: KnownRun, name: Hash, checkpoint: Checkpoint, previous: Checkpoint | None, *, ask: bool
    ) -> tuple[Verdict, str]:
        if previous is None:
            return "unknown", "the checkpoint before it is not known here"
        if not checkpoint.updates:
            same = (checkpoint.model, checkpoint.server_state) == (previous.model, previous.server_state)
            return ("agrees", "") if same else ("differs", "it changes the model, and lists no update")
        assert known.driver is not None
        if wrong := known.driver.machine.audit.wrong_refusal(checkpoint, previous):
            return "differs", wrong
        async with self._data(known) as data:
            try:
                await self._obtain(known, data, checkpoint, previous, ask=ask)
                sources = _sources(checkpoint, self._me)
                audit = RunAudit(data, self._disk, self._trainer)
                why = await audit.judge(Recompute(name, checkpoint, previous, sources))
            except FednodeError as error:
                # Who did not give what has grown old is no matter: updates are not kept any longer.
                is_old = checkpoint.round < known.driver.machine.ledger.newest.round
                return "unknown", GONE if is_old and are_updates_shared(known.manifest) else error.what
        return ("differs", why) if why else ("agrees", "")

    @asynccontextmanager
    async def _data(self, known: KnownRun) -> AsyncIterator[RunData]:
        """The run's data, apart from what its driver has: what was fetched within is deleted in the end."""
        blobs = RunBlobs(self._disk, self._bulk, lambda text: None, self._trainer.offload, self._of_rounds, AUDIT)
        spans = Spans(known.run_id, self._me, record=lambda row: None, now=lambda: 0.0, sequence=lambda: 0)
        data = RunData(
            known.manifest,
            self._disk,
            self._bulk,
            self._trainer,
            lambda source, kind, size, round_number: known.chronicle.moved(size, received=True),
            blobs=blobs,
            spans=spans,
        )
        try:
            yield data
        finally:
            await blobs.give_up()

    async def _obtain(
        self, known: KnownRun, data: RunData, checkpoint: Checkpoint, previous: Checkpoint, *, ask: bool
    ) -> None:
        """See that what the round was made from is here, or to be asked for. Raises FednodeError."""
        missing = [node for node, update in _compared(checkpoint) if not await self._disk.has_blob(update)]
        if missing and not are_updates_shared(known.manifest):
            raise FednodeError(NOT_SHARED, remedy='start runs with updates.readers = "members", or with an audit')
        for blob, what in (
            (checkpoint.tensor_schema, "the tensor schema"),
            (previous.model, f"the model of round {previous.round}"),
            (previous.server_state, f"the server optimizer's state of round {previous.round}"),
        ):
            if blob and not await self._disk.has_blob(BlobId(blob)):
                if not ask:
                    raise FednodeError(GONE, remedy=WHEN_TO_ASK)
                await self._fetch(data, BlobId(blob), what, checkpoint)
        if missing and not ask:
            raise FednodeError(GONE, remedy=WHEN_TO_ASK)

    async def _fetch(self, data: RunData, blob: BlobId, what: str, checkpoint: Checkpoint) -> None:
        try:
            if not await data.blobs.claim(blob, checkpoint.round):
                await self._bulk.fetch(blob, _sources(checkpoint, self._me), BLOB_BYTES_MAX)
        except FednodeError as error:
            raise FednodeError(f"{what} is not to be had any more: {error.what}", remedy=error.remedy) from error


async def _chain(known: KnownRun) -> AsyncIterator[tuple[Hash, Checkpoint, Checkpoint | None]]:
    """Name, checkpoint and the one before it, from the newest committed one down to the first round's. A checkpoint is
    believed for the hash by which the one above it names it (§9.2)."""
    assert known.driver is not None
    assert known.history is not None
    ledger, past = known.driver.machine.ledger, known.history.past
    await past.refresh()
    name, checkpoint = (ledger.committed.name, ledger.committed.checkpoint) if ledger.committed else (None, None)
    while name is not None and checkpoint is not None and name != ledger.zero.name:
        previous: Checkpoint | None = None
        if checkpoint.previous == ledger.zero.name:
            previous = ledger.zero.checkpoint
        elif Hash(checkpoint.previous) in past.places:
            previous = open_checkpoint((await past.entry(Hash(checkpoint.previous))).checkpoint).body
        yield name, checkpoint, previous
        name, checkpoint = (checkpoint_name(previous) if previous is not None else None), previous


def _sources(checkpoint: Checkpoint, me: NodeId) -> tuple[NodeId, ...]:
    """Who may have what the round was made from: its maker first, then the voters, who may have audited it."""
    return tuple(node for node in map(NodeId, dict.fromkeys((checkpoint.maker, *checkpoint.voters))) if node != me)


def _compared(checkpoint: Checkpoint) -> Iterable[tuple[NodeId, BlobId]]:
    """The updates that decided what it is, used or not, each with who made it."""
    for entry in checkpoint.updates:
        if not entry.refused or entry.refused in COMPARED:
            offer = open_offer(entry.offer).body
            yield NodeId(offer.node), BlobId(offer.update)


def _told(name: Hash, checkpoint: Checkpoint, verdict: Verdict, why: str) -> RoundVerdict:
    refused = sum(1 for entry in checkpoint.updates if entry.refused)
    used = len(checkpoint.updates) - refused
    return RoundVerdict(checkpoint.round, name, NodeId(checkpoint.maker), used, refused, verdict, why)
