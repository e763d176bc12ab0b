"""Which blobs a node needs, and what the others were.

What its runs work with is asked of them. Which blobs are models of which rounds is read from the runs' journals, which
are never lost; the record adds the artifacts, the registry, and the models of runs that have no journal here. Which
round of a run is the newest its journal says alone, for the record takes in what others have written.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from node.run.driver import journal_name
from node.run.known_run import KnownRun
from node.run.models import Models, models_in
from node.seams import Disk, Record
from protocol.keys import RunId
from tracker.blobs.stored import StoredBlob
from tracker.retention import DAY_S, Rules
from tracker.tables.rows import iso


@dataclass(frozen=True, slots=True)
class Sorting:
    """What lies on the disk: `kept` by a rule; `models` and `artifacts` that no rule keeps. `runs`: the models of each
    run; `made`: all artifacts."""

    kept: frozenset[str]
    models: frozenset[str]
    artifacts: frozenset[str]
    runs: Mapping[str, Models] = field(default_factory=dict)
    made: frozenset[str] = frozenset()

    def kind_of(self, stored: StoredBlob) -> str:
        """Of a blob that nothing keeps: one of GARBAGE."""
        if stored.is_half:
            return "halves"
        blob = stored.blob
        return "checkpoints" if blob in self.models else "artifacts" if blob in self.artifacts else "leftovers"


GARBAGE = {
    "checkpoints": "models of rounds that no rule of retention keeps, and that have no name",
    "artifacts": "files of tasks that are older than retention keeps them",
    "leftovers": "led to rounds that are over, or came to nothing: no run goes on from them, or may audit them",
    "halves": "came in only in part, and nobody has gone on with them",
}


def is_under_way(known: KnownRun) -> bool:
    """Whether the run goes on here, or may: then everything that it has made stays."""
    return known.driver is not None and not known.driver.machine.ledger.has_ended


def blobs_of_runs(known: Iterable[KnownRun], long_over: Set[RunId]) -> set[str]:
    """What the runs work with, or need to go on. Of those that are `long_over`, only what is in use at this moment."""
    needed: set[str] = set()
    for run in known:
        if run.driver is not None:
            needed |= run.driver.needs(is_over=run.run_id in long_over)
    return needed


def not_taken_up(known: Iterable[KnownRun]) -> list[KnownRun]:
    """Runs that we take part in and that tell nobody what they need, since they could not be taken up."""
    return [
        run
        for run in known
        if run.decision.decision == "accepted" and run.entry.start is not None and run.driver is None and not run.over
    ]


class ModelLists:
    """The models of the runs that this node knows. A journal that has not grown is read once."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._read: dict[RunId, tuple[str, Models]] = {}  # by the newest commit that was there

    async def of(self, known: KnownRun) -> Models:
        """Raises FednodeError when the journal is damaged."""
        if known.driver is None:
            return Models()
        ledger = known.driver.machine.ledger
        newest = ledger.committed.name if ledger.committed else ""
        read = self._read.get(known.run_id)
        if read is None or read[0] != newest:
            models = models_in(await self._disk.records(journal_name(known.run_id)))
            models.add(0, ledger.zero.checkpoint.model, ledger.zero.checkpoint.tensor_schema)
            read = self._read[known.run_id] = newest, models
        return read[1]


async def sort_blobs(
    known: Mapping[RunId, KnownRun], lists: ModelLists, record: Record, rules: Rules, here: Set[str], now: float
) -> Sorting:
    """Sort the blobs that are `here` by what the rules say of them. Raises FednodeError when a journal or the record
    cannot be read."""
    models = await _all_models(known, lists, record)
    kept: set[str] = {row["blob"] for row in await record.query("kept_models")}
    named: set[str] = set()
    for run_id, of_run in models.items():
        kept |= of_run.schemas
        rounds = {number for number, blobs in of_run.rounds.items() if blobs & here}
        run = known.get(RunId(run_id))
        if run is not None and is_under_way(run) and not rules.checkpoints.running:
            chosen = rounds
        else:
            chosen = rules.checkpoints.kept(rounds, await _best_round(record, run_id) if len(rounds) > 1 else None)
        for number in rounds:
            named |= of_run.rounds[number]
            if number in chosen:
                kept |= of_run.rounds[number]
    old, young = await _artifacts(known, record, rules, now)
    return Sorting(
        frozenset(kept | young),
        frozenset(named - kept),
        frozenset(old - young - kept),
        runs=models,
        made=frozenset(old | young),
    )


async def _all_models(known: Mapping[RunId, KnownRun], lists: ModelLists, record: Record) -> dict[str, Models]:
    models = {str(run.run_id): await lists.of(run) for run in list(known.values())}
    newest = {run_id: max(of_run.rounds) for run_id, of_run in models.items() if of_run.rounds}
    recorded: dict[str, Models] = {}
    for row in await record.query("models"):
        if row["round"] <= newest.get(row["run_id"], row["round"]):
            recorded.setdefault(row["run_id"], Models()).add(row["round"], row["model"], row["schema"])
    for run_id, of_run in models.items():
        recorded.setdefault(run_id, Models()).take(of_run)
    return recorded


async def _best_round(record: Record, run_id: str) -> int | None:
    """By accuracy, or else by loss, of the means over the nodes' held-out data; of those rounds that the most nodes
    have measured, for a mean without the node that finds it hardest looks better than it is."""
    rows = await record.query("committed_models", run_id=run_id, limit=10_000_000)
    most = max((row["measured_by"] for row in rows), default=0)
    rows = [row for row in rows if row["measured_by"] == most]
    by_accuracy = [(row["accuracy"], row["round"]) for row in rows if row["accuracy"] is not None]
    by_loss = [(-row["loss"], row["round"]) for row in rows if row["loss"] is not None]
    best = max(by_accuracy or by_loss, default=None)
    return None if best is None else int(best[1])


async def _artifacts(
    known: Mapping[RunId, KnownRun], record: Record, rules: Rules, now: float
) -> tuple[set[str], set[str]]:
    """The artifacts that are older than the rule says, and the others."""
    days = rules.artifacts.days
    before = "" if days is None else iso(max(0.0, now - days * DAY_S))
    rows: list[dict[str, Any]] = await record.query("artifacts")
    going_on = {run.run_id for run in known.values() if is_under_way(run)}
    old = {row["blob"] for row in rows if row["time"] < before and row["run_id"] not in going_on}
    young = {row["blob"] for row in rows if row["time"] >= before or row["run_id"] in going_on}
    return old, young
