"""fednode report: everything that a run was and did, as one page to keep or to send."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, store_option
from node.cli.look import Json
from node.cli.report_told import Told, seconds_of, told_of, utc

if TYPE_CHECKING:
    from node.exports.plots import Drawing

NODES_DRAWN_MAX = 100  # curves in one picture; the mean is over all
CURVES_MAX = 12  # measurements drawn
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


def page_of(told: Told) -> str:
    """The page's HTML."""
    from node.cli.report_lineage import artifacts, lineage
    from node.cli.report_rounds import elections, refused, rounds
    from node.cli.report_system import system
    from node.exports.report import Section, heading, page

    run = told.run
    sections = [
        Section("Summary", _summary(told)),
        Section("Curves", _curves(told)),
        Section("Nodes", _nodes(told)),
        Section("Rounds", rounds(told)),
        Section("Elections and refused updates", elections(told) + heading("Refused updates") + refused(told)),
        *([Section("Machines", system(told))] if told.system else []),
        *([Section("Artifacts", artifacts(told))] if told.artifacts else []),
        Section("Configuration", _configuration(told)),
        Section("Lineage", lineage(told)),
    ]
    lead = f"Run {run['run_id']} of project {run['project']}, experiment {run['experiment']}"
    made = f"Made by fednode on {utc(datetime.now(UTC).isoformat())} from one node's record."
    return page(run["name"], lead, _trouble(run), sections, made)


def _trouble(run: Json) -> str:
    deposed = [
        f"{each['node_id']} was proven to lie as aggregator: {each['reason']}" for each in run.get("deposed", ())
    ]
    ended_badly = [run["reason"]] if run["reason"] and run["state"] != "FINISHED" else []
    return ". ".join([*ended_badly, *deposed, *([run["note"]] if run["note"] else [])])


def _summary(told: Told) -> str:
    from node.exports.report import facts, note

    run, rounds = told.run, told.rounds
    times = [(what, utc(run[f"{what.lower()}_at"])) for what in ("Created", "started", "ended")]
    lasted = (
        seconds_of(run["ended_at"]) - seconds_of(run["started_at"]) if run["started_at"] and run["ended_at"] else None
    )
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
    from node.exports.report import drawings, note

    chosen = sorted(told.kinds, key=_prominence)[:CURVES_MAX]
    crowd = len(told.run["participants"]) - NODES_DRAWN_MAX
    left_out = note(f"Of {NODES_DRAWN_MAX + crowd} nodes {NODES_DRAWN_MAX} are drawn.") if crowd > 0 else ""
    return drawings(_chart(told, *kind) for kind in chosen) + left_out if chosen else note("Nothing is measured yet.")


def _prominence(kind: tuple[str, str, str]) -> tuple[Any, ...]:
    key, scope, _ = kind
    return "[" in key, scope != "global", _FIRST.index(key) if key in _FIRST else len(_FIRST), kind


def _chart(told: Told, key: str, scope: str, split: str) -> "Drawing":
    from node.cli.plot import curves_of
    from node.exports.plots import chart

    points = [each for each in told.metrics if each["scope"] == scope and each["split"] == split]
    curves = curves_of(points, told.run, key, "round", scope)
    whose = "the shared model" if scope == "global" else "the nodes' own models"
    title = f"{key} of {whose}, {'held-out' if split == 'eval' else 'training'} data"
    return chart(curves.series[: NODES_DRAWN_MAX + 1], title=title, x_name="round", width=560, height=300)


def _nodes(told: Told) -> str:
    from node.exports.report import heading, table

    refused = Counter(each["node_id"] for made in told.rounds for each in made["updates_refused"])
    made = Counter(each["aggregator"] for each in told.rounds)
    newest = _newest(told.metrics)
    rows = [
        (
            *(each["name"], each["node_id"], each["role"], each["state"], each["samples"]),
            "yes" if each["voter"] else "no",
            *(newest.get((each["node_id"], key)) for key in _FIRST),
            *(made[each["node_id"]], refused[each["node_id"]], each["reason"]),
        )
        for each in sorted(told.run["participants"], key=lambda one: (one["name"], one["node_id"]))
    ]
    columns = ["node", "id", "role", "state", "samples", "votes", "accuracy", "loss"]
    nodes = table([*columns, "rounds made", "updates refused", "why"], rows, codes=[1])
    if not told.settings:
        return nodes
    settings = [(told.name(node), key, value) for node, key, value in told.settings]
    return nodes + heading("Settings that nodes told") + table(["node", "key", "value"], settings, codes=[1])


def _newest(metrics: Sequence[Json]) -> dict[tuple[str, str], float | None]:
    """Each node's newest figure on its own held-out data; measurements come in the order of rounds."""
    return {
        (each["node_id"], each["key"]): each["value"]
        for each in metrics
        if each["scope"] == "global" and each["split"] == "eval" and each["class"] is None
    }


def _configuration(told: Told) -> str:
    from node.exports.report import entry_text, table
    from protocol.manifest.words import leaves

    rows = [(key, entry_text(entry)) for key, entry in leaves(told.run["manifest"])]
    return table(["key", "value"], rows, codes=[0])
