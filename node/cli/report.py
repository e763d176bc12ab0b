"""fednode report: everything that a run was and did, as one page to keep or to send."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, common_options, store_option
from node.cli.look import ROWS_MAX, Json, metric_keys, quoted

if TYPE_CHECKING:
    from node.cli.look import Asked
    from node.plots import Drawing

NODES_DRAWN_MAX = 100  # curves in one picture; the mean is over all
CURVES_MAX = 12  # measurements drawn
_READ_ROUNDS = "A bar is a round; a stripe under it: updates were refused in it. A dashed line is an election."
_FIRST = ("accuracy", "loss")


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page's file. [default: RUN's name and .html, here]",
)
@store_option
@common_options
@click.pass_obj
def report(answer: Answer, /, run_name: str, output: Path | None) -> None:
    """Write RUN as one page: summary, curves, nodes, rounds, configuration, lineage.

    The page needs nothing else: no script in it, no request to anywhere. It holds names of nodes and their figures.
    """
    from node.cli.plot import write_file

    told = told_of(answer.record(), run_name)
    output = output or Path(f"{_file_name(told.run['name'])}.html")
    content = page_of(told).encode()
    write_file(output, content)
    answer.give({"file": str(output), "bytes": len(content)}, f"{output} is written.")


def _file_name(name: str) -> str:
    """A run's name is somebody else's choice: letters, digits, - and _ of it name a file here."""
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name).strip("-")[:80] or "run"


@dataclass(frozen=True, slots=True)
class Told:
    """All that the record says about a run."""

    run: Json
    rounds: list[Json]
    metrics: list[Json]
    kinds: list[tuple[str, str, str]]  # key, scope, split
    elections: list[tuple[int, str, str]]  # term, aggregator, time
    models: list[tuple[int, str, str, int]]  # round, model, schema, bytes
    parent: str  # the name of the run that this one starts from, where it is known here

    @property
    def names(self) -> dict[str, str]:
        return {each["node_id"]: each["name"] for each in self.run["participants"]}

    def name(self, node_id: str) -> str:
        return self.names.get(node_id) or show.node(node_id)


def told_of(asked: "Asked", run_name: str) -> Told:
    """Raises ClientError or RequestRefused where there is no such run, or no node."""
    run = asked.run(run_name)
    mine = f"run_id IN ({quoted([run['run_id']])})"
    elections = asked.sql(f"SELECT term, aggregator, time FROM elections WHERE {mine} ORDER BY term", ROWS_MAX)
    models = asked.sql(f"SELECT round, model, schema, bytes FROM models WHERE {mine} ORDER BY round", ROWS_MAX)
    parent = run["manifest"].get("parent") or ""
    return Told(
        run,
        asked.rounds(run["run_id"])["rounds"],
        asked.metrics(run["run_id"], limit=ROWS_MAX)["metrics"],
        metric_keys(asked, run["run_id"]),
        [(term, who, at) for term, who, at in elections["rows"]],
        [(number, model, schema, size) for number, model, schema, size in models["rows"]],
        _name_of(asked, parent) if parent else "",
    )


def _name_of(asked: "Asked", run_id: str) -> str:
    try:
        return str(asked.run(run_id)["name"])
    except ClientError:  # this record does not have it
        return ""


def page_of(told: Told) -> str:
    """The page's HTML."""
    from node.report import Section, drawings, heading, note, page

    run = told.run
    sections = [
        Section("Summary", _summary(told)),
        Section("Curves", _curves(told)),
        Section("Nodes", _nodes(told)),
        Section("Rounds", drawings([_rounds_chart(told)]) + note(_READ_ROUNDS) + _rounds_table(told)),
        Section("Elections and refused updates", _elections(told) + heading("Refused updates") + _refused(told)),
        Section("Configuration", _configuration(told)),
        Section("Lineage", _lineage(told)),
    ]
    lead = f"Run {run['run_id']} of project {run['project']}, experiment {run['experiment']}"
    made = f"Made by fednode on {_utc(datetime.now(UTC).isoformat())} from one node's record."
    return page(run["name"], lead, _trouble(run), sections, made)


def _trouble(run: Json) -> str:
    deposed = [
        f"{each['node_id']} was proven to lie as aggregator: {each['reason']}" for each in run.get("deposed", ())
    ]
    ended_badly = [run["reason"]] if run["reason"] and run["state"] != "FINISHED" else []
    return ". ".join([*ended_badly, *deposed, *([run["note"]] if run["note"] else [])])


def _utc(time: str | None) -> str | None:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if time else None


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _summary(told: Told) -> str:
    from node.report import facts, note

    run, rounds = told.run, told.rounds
    times = [(what, _utc(run[f"{what.lower()}_at"])) for what in ("Created", "started", "ended")]
    lasted = _seconds(run["ended_at"]) - _seconds(run["started_at"]) if run["started_at"] and run["ended_at"] else None
    return facts(
        [
            ("state", run["state"]),
            ("accuracy", None if run["accuracy"] is None else show.figure(run["accuracy"])),
            ("loss", None if run["loss"] is None else show.figure(run["loss"])),
            ("rounds", f"{run['round']} of {run['rounds']}"),
            ("nodes", len(run["participants"])),
            ("took", None if lasted is None else show.duration(lasted)),
            ("elections", len(told.elections)),
            ("updates refused", sum(len(each["updates_refused"]) for each in rounds)),
            ("moved at this node", show.size(sum(each["bytes"] for each in rounds)) if rounds else None),
            ("proposed by", run["proposer_name"] or show.node(run["proposer"])),
        ]
    ) + note(f"{', '.join(f'{what} {at}' for what, at in times if at)}.")


def _curves(told: Told) -> str:
    from node.report import drawings, note

    chosen = sorted(told.kinds, key=_prominence)[:CURVES_MAX]
    crowd = len(told.run["participants"]) - NODES_DRAWN_MAX
    left_out = note(f"Of {NODES_DRAWN_MAX + crowd} nodes {NODES_DRAWN_MAX} are drawn.") if crowd > 0 else ""
    return drawings(_chart(told, *kind) for kind in chosen) + left_out if chosen else note("Nothing is measured yet.")


def _prominence(kind: tuple[str, str, str]) -> tuple[Any, ...]:
    key, scope, _ = kind
    return "[" in key, scope != "global", _FIRST.index(key) if key in _FIRST else len(_FIRST), kind


def _chart(told: Told, key: str, scope: str, split: str) -> "Drawing":
    from node.cli.plot import curves_of
    from node.plots import chart

    points = [each for each in told.metrics if each["scope"] == scope and each["split"] == split]
    curves = curves_of(points, told.run, key, "round", scope)
    whose = "the shared model" if scope == "global" else "the nodes' own models"
    title = f"{key} of {whose}, {'held-out' if split == 'eval' else 'training'} data"
    return chart(curves.series[: NODES_DRAWN_MAX + 1], title=title, x_name="round", width=560, height=300)


def _nodes(told: Told) -> str:
    from node.report import table

    refused = Counter(each["node_id"] for made in told.rounds for each in made["updates_refused"])
    made = Counter(each["aggregator"] for each in told.rounds)
    newest = _newest(told.metrics)
    rows = [
        (
            *(each["name"], each["node_id"], each["state"], each["samples"], "yes" if each["voter"] else "no"),
            *(newest.get((each["node_id"], key)) for key in _FIRST),
            *(made[each["node_id"]], refused[each["node_id"]], each["reason"]),
        )
        for each in sorted(told.run["participants"], key=lambda one: (one["name"], one["node_id"]))
    ]
    columns = ["node", "id", "state", "samples", "votes", "accuracy", "loss"]
    return table([*columns, "rounds made", "updates refused", "why"], rows, codes=[1])


def _newest(metrics: Sequence[Json]) -> dict[tuple[str, str], float | None]:
    """Each node's newest figure on its own held-out data; measurements come in the order of rounds."""
    return {
        (each["node_id"], each["key"]): each["value"]
        for each in metrics
        if each["scope"] == "global" and each["split"] == "eval" and each["class"] is None
    }


def _rounds_chart(told: Told) -> "Drawing":
    from node.plots_rounds import Made, rounds_chart

    made = [
        Made(
            *(each["round"], each["term"], each["aggregator"], _seconds(each["committed_at"]), each["seconds"]),
            *(each["updates_used"], len(each["updates_refused"])),
        )
        for each in told.rounds
    ]
    elections = [(term, who, _seconds(at)) for term, who, at in told.elections]
    return rounds_chart(made, elections, told.names, title="When each round was made, and by whom", width=960)


def _rounds_table(told: Told) -> str:
    from node.report import folded, note, table

    if not told.rounds:
        return note("No round is committed yet.")
    rows = [
        (
            *(each["round"], told.name(each["aggregator"]), each["term"], _utc(each["committed_at"]), each["seconds"]),
            *(each["updates_used"], len(each["updates_refused"]), show.size(each["bytes"])),
        )
        for each in told.rounds
    ]
    columns = ["round", "aggregator", "term", "committed", "seconds", "updates used", "refused", "moved here"]
    return folded(f"All {len(rows)} rounds", table(columns, rows))


def _elections(told: Told) -> str:
    from node.report import note, table

    if not told.elections:
        return note("No election was seen.")
    rows = [(term, told.name(who), who, _utc(at)) for term, who, at in told.elections]
    return table(["term", "elected", "id", "time"], rows, codes=[2])


def _refused(told: Told) -> str:
    from node.report import note, table

    rows = [
        (made["round"], told.name(each["node_id"]), each["node_id"], each["reason"])
        for made in told.rounds
        for each in made["updates_refused"]
    ]
    return (
        table(["round", "update of", "id", "why it was refused"], rows, codes=[2])
        if rows
        else note("No update was refused.")
    )


def _configuration(told: Told) -> str:
    from node.report import flattened, table

    return table(["key", "value"], flattened(told.run["manifest"]), codes=[0])


def _lineage(told: Told) -> str:
    from node.report import folded, note, table

    run, manifest = told.run, told.run["manifest"]
    task, newest = manifest.get("task", {}), told.rounds[-1] if told.rounds else {}
    parent = manifest.get("parent") or ""
    what = [
        ("run", run["run_id"], "the hash of its proposal"),
        ("task", task.get("name") or task.get("file"), "built into fednode" if task.get("name") else "a file"),
        ("task's file, BLAKE3", task.get("hash"), "" if task.get("hash") else "none: the task is built in"),
        ("data set", run["data"], "each node's own, under this name; it never leaves its node"),
        ("starts from run", parent or None, (told.parent or "not in this record") if parent else "none"),
        ("group", run["group_id"], ""),
        ("proposer", run["proposer"], run["proposer_name"]),
        ("newest checkpoint", newest.get("checkpoint"), f"round {newest['round']}" if newest else ""),
        ("newest model", newest.get("model"), ""),
        ("tensor schema", told.models[-1][2] if told.models else None, ""),
    ]
    sizes = {number: size for number, _, _, size in told.models}
    rows = [
        (each["round"], each["checkpoint"], each["model"], show.size(sizes.get(each["round"]))) for each in told.rounds
    ]
    first = [(number, None, model, show.size(size)) for number, model, _, size in told.models if number == 0]
    models = table(["round", "checkpoint", "model", "size"], [*first, *rows], codes=[1, 2])
    return table(["what", "name or hash", ""], what, codes=[1]) + (
        folded("Models of all rounds", models) if rows else note("No model yet.")
    )
