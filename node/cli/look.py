"""Which runs a person wants to see, and what is known about them: `--where`, `--sort`, `--project`, `--tag`.

Everything is asked through what the node, or a store's file, answers already: the list of runs, and the record's SQL.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from node.cli.look_where import Name, Test, Value, in_order, parse, parse_sort
from protocol.errors import Refused
from tracker.queries.query import IN_MEANS, MEAN

if TYPE_CHECKING:
    from fednode_client import Client
    from node.cli.record_client import RecordClient

    Asked = Client | RecordClient

Json = dict[str, Any]
RUNS_MAX = 10_000  # that are looked through: what one answer of the node's holds
ROWS_MAX = 1_000_000  # likewise
_NUMBERS = frozenset(
    {
        "round",
        "rounds",
        "term",
        "elections",
        "accuracy",
        "loss",
        "seconds_left",
        "bytes_moved",
        "bytes_sent",
        "bytes_received",
    }
)
_TEXTS = frozenset(
    {"run_id", "name", "project", "experiment", "group_id", "task", "data", "proposer", "proposer_name", "state"}
    | {"reason", "note", "aggregator", "aggregator_name", "created_at", "started_at", "ended_at", "decision"}
)
COLUMNS = _NUMBERS | _TEXTS
PARAMETERS, METRICS = "params.", "metrics."
_TAGS = PARAMETERS + "tags"

# Of each key the mean over the nodes' newest measurement of a checkpoint, weighted by samples;
# as tracker.queries.queries has it, a figure that came twice counts once, and one that is beyond all measure not at
# all.
MEANS = """WITH latest AS (
    SELECT run_id, node_id, key, round, arg_max(value, position) AS value, arg_max(samples, position) AS samples
    FROM metrics WHERE scope = 'global' AND split = 'eval' AND class IS NULL AND {where}
    GROUP BY run_id, node_id, key, round),
means AS (
    SELECT run_id, key, round, {mean} FROM latest WHERE {in_means} GROUP BY run_id, key, round)
SELECT run_id, key, arg_max(value, round) FROM means GROUP BY run_id, key"""
MEANS = MEANS.replace("{mean}", MEAN).replace("{in_means}", IN_MEANS)


class Looker:
    """What one node, or one file, says about many runs. Known keys are asked for once, where one is named."""

    def __init__(self, asked: "Asked") -> None:
        self._asked = asked
        self._known: dict[str, list[str]] = {}
        self._values: dict[tuple[str, Name], Value] = {}  # by run_id

    def chosen(
        self,
        *,
        where: str | None = None,
        sort: str | None = None,
        project: str | None = None,
        tags: Sequence[str] = (),
        limit: int,
    ) -> tuple[list[tuple[Json, dict[Name, Value]]], list[Name]]:
        """Runs that fit, each with its values of the names that were asked about, and these names.

        The newest come first where `sort` says nothing.

        Raises:
            Refused: code `bad-where`; its text shows the place.
        """
        if not (where or sort or project or tags):
            return [(run, {}) for run in self._asked.runs(limit=limit)["runs"]], []
        test = parse(where, self.resolve, kind_of) if where else Test(frozenset(), lambda known: True)
        order = parse_sort(sort, self.resolve) if sort else []
        tagged = [_TAGS] if tags else []
        names = list(dict.fromkeys([*sorted(test.names), *(name for name, _ in order)]))
        self._fetch([*names, *tagged])
        runs = [
            run
            for run in self._asked.runs(limit=RUNS_MAX)["runs"]
            if (project is None or run["project"] == project)
            and set(tags) <= set((tagged and self.value(run, tagged[0])) or ())
            and test.holds(lambda name, run=run: self.value(run, name)) is True  # type: ignore[misc]
        ]
        shown = in_order(runs, order, self.value)[:limit]
        return [(run, {name: self.value(run, name) for name in names}) for run in shown], names

    def value(self, run: Json, name: Name) -> Value:
        """A run's value of a name that was asked about; None where it has none."""
        return run[name] if name in COLUMNS else self._values.get((run["run_id"], name))

    def resolve(self, written: str) -> Name:
        """The full name of what a person wrote. Raises LookupError with a sentence that names what is known."""
        written = written.replace("`", "")
        if written.startswith(PARAMETERS):
            from protocol.manifest.aliases import ALIASES

            name, keys = written.removeprefix(PARAMETERS), self._keys(PARAMETERS)
            return PARAMETERS + _key(name if name in keys else ALIASES.get(name, name), keys, "parameter")
        if written.startswith(METRICS):
            return METRICS + _key(written.removeprefix(METRICS), self._keys(METRICS), "measurement")
        if written in COLUMNS:
            return written
        if written == "tags":
            return _TAGS
        near = _nearest(written, {*COLUMNS, "tags"})
        if near:
            raise LookupError(f"there is no {written}; do you mean {near}?")
        known = ", ".join(sorted(COLUMNS))
        raise LookupError(f"there is no {written}. Known are params.KEY, metrics.KEY, tags, {known}")

    def _keys(self, prefix: str) -> list[str]:
        if prefix not in self._known:
            if prefix == PARAMETERS:
                statement = "SELECT DISTINCT key FROM parameters ORDER BY key"
            else:
                statement = "SELECT DISTINCT key FROM metrics WHERE scope = 'global' AND class IS NULL ORDER BY key"
            self._known[prefix] = [key for (key,) in self._asked.sql(statement, ROWS_MAX)["rows"]]
        return self._known[prefix]

    def _fetch(self, names: Iterable[Name]) -> None:
        """Ask for all values of parameters and measurements at once."""
        keys = {
            prefix: [n.removeprefix(prefix) for n in names if n.startswith(prefix)] for prefix in (PARAMETERS, METRICS)
        }
        if keys[PARAMETERS]:
            statement = f"SELECT run_id, key, value, type FROM parameters WHERE key IN ({quoted(keys[PARAMETERS])})"
            for run_id, key, text, kind in self._asked.sql(statement, ROWS_MAX)["rows"]:
                self._values[run_id, PARAMETERS + key] = parameter(text, kind)
        if keys[METRICS]:
            statement = MEANS.replace("{where}", f"key IN ({quoted(keys[METRICS])})")
            for run_id, key, value in self._asked.sql(statement, ROWS_MAX)["rows"]:
                self._values[run_id, METRICS + key] = value


def kind_of(name: Name) -> str | None:
    """What a column always is; parameters may be one thing here and another there."""
    return "number" if name in _NUMBERS or name.startswith(METRICS) else "text" if name in _TEXTS else None


def parameter(text: str, kind: str) -> Value:
    """A parameter's value out of the text that the record keeps of it."""
    if kind == "str":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # an import may hold any text
        return text


def quoted(texts: Iterable[str]) -> str:
    """Texts as a list of SQL's."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def _key(written: str, known: Sequence[str], what: str) -> str:
    """The key that is `written`, or the only one that ends with it: learning_rate is training.learning_rate."""
    if written in known or not known:  # where nothing is known yet, nothing is mistyped
        return written
    ending = [key for key in known if key.endswith(f".{written}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise LookupError(f"{written} can be {' or '.join(ending)}; write more of it")
    near = _nearest(written, known)
    raise LookupError(f"no run has the {what} {written}" + (f"; do you mean {near}?" if near else _listed(known)))


def _nearest(written: str, known: Iterable[str]) -> str:
    """Names like it; a long key is compared by its last part too."""
    by_end = {key.rpartition(".")[2]: key for key in known}
    found = [by_end[end] for end in difflib.get_close_matches(written.rpartition(".")[2], by_end, n=3)]
    return " or ".join(dict.fromkeys(found))


def _listed(known: Sequence[str], shown: int = 60) -> str:
    return f". Known are {', '.join(known[:shown])}{' …' if len(known) > shown else ''}"


def metric_keys(asked: "Asked", run_id: str) -> list[tuple[str, str, str]]:
    """What a run measured: (key, scope, split), by key. Classes have a name of their own: accuracy[3]."""
    statement = (
        "SELECT DISTINCT CASE WHEN class IS NULL THEN key ELSE key || '[' || class || ']' END AS label, scope, split "
        f"FROM metrics WHERE run_id IN ({quoted([run_id])}) ORDER BY ALL"
    )
    return [(key, scope, split) for key, scope, split in asked.sql(statement, ROWS_MAX)["rows"]]


def need_metric(asked: "Asked", run: Json, metric: str, scope: str) -> None:
    """Raise Refused, naming what there is, where a run has no such measurement."""
    measured = metric_keys(asked, run["run_id"])
    if any(key == metric and found == scope for key, found, _ in measured):
        return
    other = sorted({found for key, found, _ in measured if key == metric})
    if other:
        raise Refused("no-such-metric", f"{metric} is not measured there", remedy=f"ask with --scope {other[0]}")
    known = ", ".join(dict.fromkeys(key for key, _, _ in measured))
    raise Refused(
        "no-such-metric",
        f"{run['name']} has no measurement called {metric!r}",
        remedy=f"name one of {known}" if known else "wait for its first round",
    )
