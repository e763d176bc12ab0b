"""What of the record a person should look at: refused updates, failed runs and audits, as items of the inbox.

Pure: rows of tracker.queries.for_inbox in, items as docs/api.md has them out. What only a running node knows, such as a
full disk, is added in node.api.inbox.items.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from tracker.blobs.quota import NO_ROOM_HERE

Json = dict[str, Any]
Ask = Callable[[str, Mapping[str, Any]], Sequence[Json]]  # a named query and its parameters

LOOK_BACK_S = 14 * 86_400.0  # what nobody has looked at for two weeks is history: the record still has it
KIND_MAX = 50  # items of one kind: more are not read one by one, and a hostile peer must not make more
TITLE_CHARACTERS_MAX = 120
TEXT_CHARACTERS_MAX = 600  # two sentences, with a peer's reason in one of them


def item(
    kind: str,
    *about: object,
    time: str | None,
    title: str,
    text: str,
    run: str = "",
    node: str = "",
    group: str = "",
    actions: Sequence[str] = (),
) -> Json:
    """An item that waits to be looked at. Its id follows from its kind and what it is `about`, so whoever has seen it
    once is not shown it again, and sees it when it is about something else."""
    named = sha256("\0".join(map(str, about)).encode()).hexdigest()[:12]
    return {
        "id": f"{kind}-{named}",
        "kind": kind,
        "time": time,
        "title": title[:TITLE_CHARACTERS_MAX],
        "text": text[:TEXT_CHARACTERS_MAX],
        "run_id": run,
        "node_id": node,
        "group_id": group,
        "needs": "look",
        "actions": [*actions, "seen"],
    }


def refused_item(row: Json, me: str = "") -> Json:
    """A node's refused updates in a run. It comes back to who has seen it when they have become twice as many.

    `me`: whose inbox it is; "" for nobody's, as in a record.
    """
    run, count, ours = _run_of(row), row["refusals"], row["node_id"] == me
    who = _name(row, "node_name", "node_id")
    by = "by us" if row["aggregator"] == me else f"by {_name(row, 'aggregator_name', 'aggregator')}"
    times = "once" if count == 1 else f"{count} times"
    todo = (
        "See the reason, then our log of the run: our data or our copy of the task may be wrong."
        if ours
        else "The round went on without it. If it goes on, tell the node's owner."
    )
    return item(
        "refused-updates",
        *(row["run_id"], row["node_id"], int(count).bit_length()),
        time=row["time"],
        title=f"{'Our updates were' if ours else f'Updates of {who} were'} refused in {run}",
        text=f"{'Ours were' if ours else f'{who} was'} refused {times} in {run}, last {by} in round {row['round']}: "
        f"{row['reason']}. {todo}",
        run=row["run_id"],
        node=row["node_id"],
        group=row["group_id"],
        actions=("run", "node"),
    )


def failed_item(row: Json, me: str = "") -> Json:
    """A run that has failed, or our part in one. It comes back when it fails again."""
    run, reason = _run_of(row), row["reason"] or "no reason was told"
    mine = bool(row["node_id"])
    title = f"Our part in {run} has failed" if mine and row["node_id"] == me else f"Run {run} has failed"
    rejoin = "See our log of the run, mend the cause, and restart the node to take part again."
    todo = (
        "Until there is room the run goes on without us, then with us again: see fednode blobs for what takes it, and "
        "fednode limits --blobs-max for what blobs may take."
        if mine and reason.startswith(NO_ROOM_HERE)
        else f"The run goes on without us. {rejoin}"
        if mine
        else "Its checkpoints are kept. See its log; a new run can start from its newest checkpoint (parent)."
    )
    return item(
        "failed-run",
        *(row["run_id"], row["node_id"], row["time"]),
        time=row["time"],
        title=title,
        text=f"{title}: {reason}. {todo}",
        run=row["run_id"],
        node=row["node_id"],
        group=row["group_id"],
        actions=("run",),
    )


def lie_item(run_id: str, run: str, who: str, what: str, *, time: str | None, node: str = "", group: str = "") -> Json:
    """An aggregator that was proven to lie."""
    return item(
        "failed-audit",
        *(run_id, node or who, what),
        time=time,
        title=f"{who} lied as aggregator of {run}",
        text=f"An audit of {run} proved it against {who}: {what}. It aggregates no more in this run; what it signed "
        "is kept as the proof. Decide with the group whether it stays a member.",
        run=run_id,
        node=node,
        group=group,
        actions=("run", *(("node",) if node else ()), *(("group",) if group else ())),
    )


def told_lie_item(row: Json) -> Json:
    """The same from the line of the log that told of it, where nothing else is known."""
    who, _, what = row["message"].partition(" lied: ")
    what = what.partition(". What it signed")[0]
    return lie_item(row["run_id"], _run_of(row), who, what, time=row["time"], group=row["group_id"])


def record_items(ask: Ask) -> list[Json]:
    """What a record tells by itself, the newest first. Blocks as `ask` does."""
    found = [told_lie_item(row) for row in ask("lies", {"limit": KIND_MAX})]
    found += [refused_item(row) for row in ask("refused_updates", {"limit": KIND_MAX})]
    found += [failed_item(row) for row in ask("failed_runs", {"limit": KIND_MAX, "node": ""})]
    return newest_first(found)


def newest_first(items: Sequence[Json]) -> list[Json]:
    """Each id once; what has no time comes last."""
    once = {each["id"]: each for each in items}
    return sorted(once.values(), key=lambda each: (each["time"] or "", each["id"]), reverse=True)


def _run_of(row: Json) -> str:
    return str(row["run"] or row["run_id"][:8])


def _name(row: Json, name: str, node_id: str) -> str:
    return str(row[name] or row[node_id][-8:])
