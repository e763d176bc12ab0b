"""fednode run compare: what runs were given, where that differs, and what came of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, store_option
from node.cli.look import MEANS, ROWS_MAX, Json, metric_keys, parameter, quoted
from protocol.errors import Refused

if TYPE_CHECKING:
    from node.cli.look import Asked
    from node.exports.plots import Series

RUNS_MAX = 26  # a letter for each
METRICS = ("accuracy", "loss")
BESIDE_FROM_WIDTH = 110  # two charts stand side by side from here on
CHART_ROWS = 14


@click.command()
@click.argument("run_names", metavar="RUN RUN …", nargs=-1, required=True)
@click.option("--metric", "metrics", multiple=True, help="Whose curves are drawn. [default: accuracy and loss]")
@store_option
@common_options
@click.pass_obj
def compare(answer: Answer, run_names: tuple[str, ...], metrics: tuple[str, ...]) -> None:
    """Put runs side by side: parameters that differ, what came of them, and their curves."""
    if not 2 <= len(run_names) <= RUNS_MAX:
        raise click.UsageError(f"name from 2 to {RUNS_MAX} runs")
    asked = answer.record()
    runs = list({run["run_id"]: run for run in map(asked.run, run_names)}.values())
    if len(runs) < 2:
        raise Refused("bad-runs", "These are all the same run", remedy="name another one too")
    names = _names(runs)
    differing = differing_parameters(asked, runs)
    outcomes = [outcome(asked, run) for run in runs]
    curves = {metric: _mean_curves(asked, runs, names, metric) for metric in _drawn(asked, runs, metrics)}
    if answer.json:
        answer.give(_told(runs, differing, outcomes, curves), "")
        return
    heads = [f"{chr(ord('A') + place)} {name}" for place, name in enumerate(names)]
    click.echo("Parameters that differ" if differing else "All their parameters are the same.")
    if differing:
        show.table(["PARAMETER", *heads], [[key, *map(_shown, values)] for key, values in differing.items()])
    click.echo("\nWhat came of it")
    facts = list(dict.fromkeys(key for each in outcomes for key in each))
    show.table(["", *heads], [[key, *(_told_outcome(key, each.get(key)) for each in outcomes)] for key in facts])
    click.echo()
    for line in _charts(curves):
        click.echo(line)


def _names(runs: Sequence[Json]) -> list[str]:
    """Runs of one name have their ids beside it."""
    from node.exports.plots import plain

    named = [run["name"] for run in runs]
    return [
        plain(name if named.count(name) == 1 else f"{name} {show.short(run['run_id'])}")
        for name, run in zip(named, runs, strict=True)
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return show.figure(value)
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _told_outcome(key: str, value: Any) -> str:
    if value is None:
        return "–"
    told = {"seconds in all": show.duration, "bytes moved here": show.size}
    return told[key](value) if key in told else _shown(value)


def differing_parameters(asked: "Asked", runs: Sequence[Json]) -> dict[str, list[Any]]:
    """Keys whose values are not the same everywhere, each with its value in every run, None where it has none."""
    ids = [run["run_id"] for run in runs]
    statement = f"SELECT run_id, key, value, type FROM parameters WHERE run_id IN ({quoted(ids)}) ORDER BY key"
    found: dict[str, dict[str, Any]] = {}
    for run_id, key, text, kind in asked.sql(statement, ROWS_MAX)["rows"]:
        found.setdefault(key, {})[run_id] = parameter(text, kind)
    lined_up = {key: [values.get(run_id) for run_id in ids] for key, values in found.items() if key != "name"}
    return {key: values for key, values in lined_up.items() if any(value != values[0] for value in values)}


def outcome(asked: "Asked", run: Json) -> Json:
    """What came of a run, in plain figures; seconds and bytes are summed over its rounds."""
    from statistics import median

    rounds = asked.rounds(run["run_id"])["rounds"]
    statement = MEANS.replace("{where}", f"run_id IN ({quoted([run['run_id']])})")
    newest = {key: value for _, key, value in sorted(asked.sql(statement, ROWS_MAX)["rows"])}
    return {
        "state": run["state"],
        "rounds": f"{run['round']}/{run['rounds']}",
        "nodes": len(run["participants"]),
        **newest,
        "seconds in all": _lasted(run) if run["started_at"] and run["ended_at"] else None,
        "seconds a round": median([each["seconds"] for each in rounds]) if rounds else None,
        "bytes moved here": sum(each["bytes"] for each in rounds),
        "updates refused": sum(len(each["updates_refused"]) for each in rounds),
        "elections": run["elections"],
        "aggregators": len({each["aggregator"] for each in rounds}),
    }


def _lasted(run: Json) -> float:
    return (datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()


def _drawn(asked: "Asked", runs: Sequence[Json], wanted: Sequence[str]) -> list[str]:
    """The measurements to draw. Raises Refused, naming what there is, for one that no run has."""
    measured = {key for run in runs for key, scope, _ in metric_keys(asked, run["run_id"]) if scope == "global"}
    for metric in wanted:
        if metric not in measured:
            known = ", ".join(sorted(measured)) or "none yet"
            raise Refused("no-such-metric", f"None of them measured {metric!r}", remedy=f"there are: {known}")
    return list(dict.fromkeys(wanted)) or [metric for metric in METRICS if metric in measured]


def _mean_curves(asked: "Asked", runs: Sequence[Json], names: Sequence[str], metric: str) -> "list[Series]":
    from node.cli.plot import curves_of
    from node.exports.plots import Series

    made = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        key = metric.partition("[")[0]
        points = asked.metrics(run["run_id"], key=key, scope="global", limit=ROWS_MAX)["metrics"]
        means = [point for point in points if not point["node_id"]]
        series = curves_of(means, run, metric, "round", "global").series
        made.append(Series(name, series[0].points if series else (), False, place))
    return made


def _charts(curves: "dict[str, list[Series]]") -> list[str]:
    from node.cli.plot import coloured, terminal_size
    from node.exports.plots_terminal import beside, draw

    width, _ = terminal_size()
    in_pairs = width >= BESIDE_FROM_WIDTH and len(curves) > 1
    each = (width - 2) // 2 if in_pairs else width
    blocks = [
        draw(series, title=metric, x_name="round", width=each, height=CHART_ROWS, colour=coloured())
        for metric, series in curves.items()
    ]
    lines: list[str] = []
    for place in range(0, len(blocks), 2 if in_pairs else 1):
        pair = blocks[place : place + 2] if in_pairs else blocks[place : place + 1]
        lines += [*(beside(pair[0], pair[1], each + 2) if len(pair) > 1 else pair[0]), ""]
    return lines


def _told(runs: Sequence[Json], differing: Json, outcomes: Sequence[Json], curves: "dict[str, list[Series]]") -> Json:
    ids = [run["run_id"] for run in runs]
    return {
        "runs": [{key: run[key] for key in ("run_id", "name", "state", "project", "experiment")} for run in runs],
        "parameters": {key: dict(zip(ids, values, strict=True)) for key, values in differing.items()},
        "outcomes": dict(zip(ids, outcomes, strict=True)),
        "curves": {
            metric: {run_id: list(one.points) for run_id, one in zip(ids, series, strict=True)}
            for metric, series in curves.items()
        },
    }
