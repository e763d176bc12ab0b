"""Many runs at once, as the record knows them: pages of the list, what a watcher is told first, who takes part in them.

Put as questions to whoever has the record: see tracker.queries.asking.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tracker.queries.asking import Asking
from tracker.queries.runs import RUN_FILTERS

Json = dict[str, Any]

NEWEST_TOLD = 100  # that watchers begin with; older ones they ask for page by page
OPEN_TOLD_MAX = 1_000  # of those that go on or wait for an answer: far more than one node can take part in
_ORDER = ("limit", "offset", "descending", "by_project")


def runs_page(wanted: Mapping[str, Any]) -> Asking[Json]:
    """`runs` and the `total` of those that fit what docs/api.md lets one ask for; "brief": without participants."""
    filters = {key: wanted.get(key) for key in RUN_FILTERS}
    order = {key: wanted.get(key) for key in _ORDER}
    rows = yield f"runs_by_{wanted.get('sort') or 'created'}", {**filters, **order}
    runs = rows if wanted.get("brief") else (yield from with_participants(rows))
    return {"runs": runs, "total": (yield from _total(filters))}


def runs_told_first() -> Asking[tuple[list[Json], int]]:
    """The newest runs, then all others that go on or wait for an answer; and how many there are in all."""
    rows = yield "runs", {"limit": NEWEST_TOLD}
    known = {row["run_id"] for row in rows}
    still_open = yield "runs", {"limit": OPEN_TOLD_MAX, "open": True}
    rows += [row for row in still_open if row["run_id"] not in known]
    return (yield from with_participants(rows)), (yield from _total({}))


def with_participants(rows: Sequence[Json]) -> Asking[list[Json]]:
    """Runs with the rows of their `participants`, which are asked for once, and `measured_of`: by how many of them the
    run's figures can be measured."""
    by_run: dict[str, list[Json]] = {row["run_id"]: [] for row in rows}
    if rows:
        for entry in (yield "participants", {"run_ids": list(by_run)}):
            by_run[entry["run_id"]].append(entry)
    told = ((row, by_run[row["run_id"]]) for row in rows)
    return [{**row, "participants": entries, "measured_of": sum(map(_can_measure, entries))} for row, entries in told]


def _can_measure(participant: Json) -> bool:
    """It takes part, with data of its own; who was lost on the way counts, for nothing is known of its data now."""
    return participant["role"] != "observer" and participant["state"] not in ("INVITED", "DECLINED")


def _total(filters: Json) -> Asking[int]:
    counted = yield "runs_total", filters
    return counted[0]["total"] if counted else 0
