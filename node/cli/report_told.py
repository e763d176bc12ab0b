"""All that the record says about a run, asked for once, for its report."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fednode_client import ClientError
from node.cli import show
from node.cli.look import ROWS_MAX, Json, metric_keys, quoted

if TYPE_CHECKING:
    from node.cli.look import Asked
    from node.exports.plots_spans import Span

SYSTEM_POINTS_MAX = 300  # of one curve: more than its picture's width shows
_SYSTEM_UNSETTLED_S = 30.0  # a machine is measured now and then: what was measured so shortly before still counts
# A page goes to others, and a path of this machine concerns nobody else.
_DATA = "CASE WHEN data IN (SELECT name FROM data_sets) THEN data ELSE 'a file here' END"

Rows = list[list[Any]]


@dataclass(frozen=True, slots=True)
class Told:
    """Times of rows are ISO 8601 text, those of spans and of system figures seconds since the epoch."""

    run: Json
    rounds: list[Json]
    metrics: list[Json]
    kinds: list[tuple[str, str, str]]  # key, scope, split
    elections: Rows  # term, aggregator, time
    models: Rows  # round, model, schema, bytes
    participants: Rows  # node, role, samples, fingerprint of its data
    spans: "list[Span]"
    system: Rows  # node, scope, key, device, unit, time, value
    settings: Rows  # node, key, value
    artifacts: Rows  # node, name, kind, round, bytes, blob, time
    registered: Rows  # name, version, round, aliases
    evaluations: Rows  # model, round, data set, fingerprint, samples, metrics, time
    lineage: Rows  # kind, source, target
    parent: str  # the name of the run that this one starts from, where it is known here
    children: Rows  # runs that start from this one: run, name

    @property
    def names(self) -> dict[str, str]:
        return {each["node_id"]: each["name"] for each in self.run["participants"]}

    def name(self, node_id: str) -> str:
        return self.names.get(node_id) or show.node(node_id)


def told_of(asked: "Asked", run_name: str) -> Told:
    """Raises ClientError or RequestRefused where there is no such run, or no node."""
    run = asked.run(run_name)
    mine = f"run_id IN ({quoted([run['run_id']])})"

    def rows(select: str, rest: str = "") -> Rows:
        return [list(row) for row in asked.sql(f"SELECT {select} WHERE {mine} {rest}", ROWS_MAX)["rows"]]

    parent = run["manifest"].get("parent") or ""
    return Told(
        run=run,
        rounds=asked.rounds(run["run_id"])["rounds"],
        metrics=asked.metrics(run["run_id"], limit=ROWS_MAX)["metrics"],
        kinds=metric_keys(asked, run["run_id"]),
        elections=rows("term, aggregator, time FROM elections", "ORDER BY term"),
        models=rows("round, model, schema, bytes FROM models", "ORDER BY round"),
        participants=rows("node_id, role, samples, data_fingerprint FROM participants", "ORDER BY node_id"),
        spans=_spans(asked, mine),
        system=_system(asked, run),
        settings=rows("node_id, key, value FROM node_parameters", "ORDER BY key, node_id"),
        artifacts=rows("node_id, name, kind, round, bytes, blob, time FROM artifacts", "ORDER BY node_id, name"),
        registered=_registered(asked, mine),
        evaluations=rows(
            f"model, round, {_DATA}, data_fingerprint, samples, metrics, time FROM evaluations", "ORDER BY position"
        ),
        lineage=rows("kind, source, target FROM lineage", "ORDER BY ALL"),
        parent=_name_of(asked, parent) if parent else "",
        children=_children(asked, run["run_id"]),
    )


def _spans(asked: "Asked", mine: str) -> "list[Span]":
    from node.exports.plots_spans import Span

    statement = (
        "SELECT node_id, round, name, peer, epoch(started_at) AS started_at, seconds, bytes FROM spans "
        f"WHERE {mine} ORDER BY started_at, sequence"
    )
    return [Span(*row) for row in asked.sql(statement, ROWS_MAX)["rows"] if row[5] is not None]


def _system(asked: "Asked", run: Json) -> Rows:
    """Means over short times: of the run's workers, and of the machines and processes while the run went on."""
    if not run["started_at"]:
        return []
    start, end = (seconds_of(run[key] or datetime.now(UTC).isoformat()) for key in ("started_at", "ended_at"))
    step = max((end - start) / SYSTEM_POINTS_MAX, 1.0)
    nodes = quoted(each["node_id"] for each in run["participants"])
    while_it_ran = f"epoch(time) BETWEEN {start - _SYSTEM_UNSETTLED_S} AND {end + 1}"
    statement = f"""SELECT node_id, scope, key, device, any_value(unit), avg(epoch(time)) AS time, avg(value)
        FROM system_metrics WHERE isfinite(value) AND {while_it_ran} AND (run_id IN ({quoted([run["run_id"]])})
            OR (run_id = '' AND node_id IN ({nodes or "''"})))
        GROUP BY node_id, scope, key, device, floor(epoch(time) / {step}) ORDER BY scope, key, device, node_id, time"""
    return [list(row) for row in asked.sql(statement, ROWS_MAX)["rows"]]


def _registered(asked: "Asked", mine: str) -> Rows:
    statement = f"""SELECT m.name, m.version, m.round, coalesce(string_agg(a.alias, ', ' ORDER BY a.alias), '')
        FROM registered_models m LEFT JOIN model_aliases a
            ON a.name = m.name AND a.version = m.version AND NOT a.removed
        WHERE m.{mine} AND NOT m.removed GROUP BY ALL ORDER BY m.name, m.version"""
    return [list(row) for row in asked.sql(statement, ROWS_MAX)["rows"]]


def _children(asked: "Asked", run_id: str) -> Rows:
    statement = f"""SELECT target, name FROM lineage JOIN runs ON runs.run_id = target
        WHERE kind = 'parent' AND source IN ({quoted([run_id])}) ORDER BY ALL"""
    return [list(row) for row in asked.sql(statement, ROWS_MAX)["rows"]]


def _name_of(asked: "Asked", run_id: str) -> str:
    try:
        return str(asked.run(run_id)["name"])
    except ClientError:  # this record does not have it
        return ""


def utc(time: str | None) -> str | None:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if time else None


def seconds_of(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
