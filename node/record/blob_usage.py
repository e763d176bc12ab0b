"""What takes the room that blobs have: each blob that lies here by its kind, and by the runs that it belongs to."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from node.record.kept_blobs import Sorting
from node.record.retention import Looked
from node.run.known_run import KnownRun
from node.run.models import Models
from protocol.run.checkpoint import Checkpoint
from protocol.run.ledger import Ledger
from tracker.blobs.stored import StoredBlob

Json = dict[str, Any]

# In the order in which they are shown.
KINDS = {
    "models": "of rounds, and those that have a name",
    "updates": "that a run under way works with, or may have to audit",
    "differences": "from one checkpoint to the next",
    "states": "of server optimizers and methods, which the next round needs",
    "schemas": "of tensors, one for each run",
    "artifacts": "files that tasks kept",
    "halves": "on their way in, or what is left of damaged ones: fednode blobs verify",
    "unclaimed": "stored within the last hour, which may yet belong to something; or older than the record",
    "garbage": "which nothing needs: fednode blobs gc",
}

ONE = {
    "models": "model",
    "updates": "update",
    "differences": "difference",
    "states": "optimizer's state",
    "schemas": "schema",
}


def usage_of(looked: Looked, known: Iterable[KnownRun]) -> Json:
    """How many blobs of each kind there are, with their bytes, and how many belong to each run. A blob that several
    runs share counts for each of them."""
    kinds: dict[str, str] = {}
    runs = []
    for run in known:
        of_run = kinds_in_run(run, looked.sorting.runs.get(run.run_id, Models()))
        kinds |= of_run
        here = [entry for entry in looked.stored if entry.blob in of_run]
        if here:
            runs.append({"run_id": run.run_id, "name": run.name, **_sum(here)})
    garbage = {entry.blob for entry in looked.garbage}
    sorted_: dict[str, list[StoredBlob]] = {kind: [] for kind in KINDS}
    for entry in looked.stored:
        sorted_[_kind(entry, garbage, kinds, looked.sorting)].append(entry)
    return {
        **_sum(looked.stored),
        "kinds": [{"kind": kind, "what": KINDS[kind], **_sum(sorted_[kind])} for kind in KINDS],
        "runs": sorted(runs, key=lambda each: -each["bytes"]),
        "spared": looked.spared,
    }


def words_of(entry: StoredBlob, looked: Looked, known: Iterable[KnownRun]) -> str:
    """Which blob it is, for people: model of round 3 of study. "" where nobody knows. Of a blob that several runs share
    the one that goes on is named."""
    found = ""
    for run in known:
        models = looked.sorting.runs.get(run.run_id, Models())
        kind = kinds_in_run(run, models).get(entry.blob)
        if kind is None or (found and run.is_over):
            continue
        rounds = sorted(number for number, of_round in models.rounds.items() if entry.blob in of_round)
        found = f"{ONE[kind]}{f' of round {rounds[0]}' if rounds else ''} of {run.name}"
    return found or ("artifact" if entry.blob in looked.sorting.made else "")


def kinds_in_run(run: KnownRun, models: Models) -> dict[str, str]:
    """What each blob is that the run has made, or works with."""
    kinds = kinds_at_work(run) | {model: "models" for of_round in models.rounds.values() for model in of_round}
    return kinds | dict.fromkeys(models.schemas, "schemas")


def kinds_at_work(run: KnownRun) -> dict[str, str]:
    """What each blob is that the run works with just now."""
    if run.driver is None:
        return {}
    updates = dict.fromkeys(run.driver.needs(is_over=False), "updates")
    return updates | _of_checkpoints(run.driver.machine.ledger)


def _of_checkpoints(ledger: Ledger) -> dict[str, str]:
    held = [each.checkpoint for each in (ledger.zero, ledger.stored, ledger.committed) if each is not None]
    before = ledger.committed_before(ledger.newest)
    kinds: dict[str, str] = {}
    for checkpoint in [*held, *([before] if before is not None else [])]:
        kinds |= _of_checkpoint(checkpoint)
    kinds.pop("", None)
    return kinds


def _of_checkpoint(checkpoint: Checkpoint) -> dict[str, str]:
    return {
        checkpoint.difference: "differences",
        checkpoint.server_state: "states",
        checkpoint.tensor_schema: "schemas",
        checkpoint.model: "models",
    }


def _kind(entry: StoredBlob, garbage: set[Any], kinds: Mapping[str, str], sorting: Sorting) -> str:
    if entry.blob in garbage:
        return "garbage"
    if entry.is_half:
        return "halves"
    if entry.blob in sorting.made:
        return "artifacts"
    return kinds.get(entry.blob) or ("models" if entry.blob in sorting.kept else "unclaimed")


def _sum(entries: Iterable[StoredBlob]) -> Json:
    count: Counter[str] = Counter()
    for entry in entries:
        count["blobs"] += 1
        count["bytes"] += entry.bytes
    return {"blobs": count["blobs"], "bytes": count["bytes"]}
