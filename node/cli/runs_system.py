"""fednode run spans, fednode run system: how a run's nodes spent their time, and how busy their machines were."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, store_option

Json = dict[str, Any]
ROWS_MAX = 1_000_000  # what one answer of the node's holds
ORDER = ("wait", "fetch", "train", "encode", "upload", "aggregate", "evaluate")  # as a round goes
_COUNTED = ("network_sent_bytes", "network_received_bytes", "disk_read_bytes", "disk_written_bytes")
_SHOWN = frozenset({"cpu_percent", "memory_bytes", "memory_used_bytes", "memory_percent", "threads"} | set(_COUNTED))


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--node", help="Only this node: name, id, or the beginning of an id.")
@click.option("--after-round", type=click.IntRange(-1), help="Only rounds after this one.")
@store_option
@common_options
@click.pass_obj
def spans(answer: Answer, run_name: str, node: str | None, after_round: int | None) -> None:
    """Show what every node of RUN was busy with, in seconds for each round.

    \b
    wait       until there was something to do: for other nodes' updates, or for the round's end
    fetch      for updates, or for the round's checkpoint, from other nodes
    train      on its own data
    encode     taking the difference from the base, coding and storing it
    upload     handing its update to the aggregator
    aggregate  combining the updates
    evaluate   measuring the checkpoint on its held-out data

    Kinds overlap, as a node does several things at once. Of other nodes there is the sum that they tell.
    """
    asked = answer.record()
    found = asked.spans(run_name, node=node, after_round=after_round, limit=ROWS_MAX)["spans"]
    if answer.json:
        answer.give(found, "")
        return
    names = _names(asked.run(run_name))
    kinds = [*ORDER, *sorted({span["name"] for span in found} - set(ORDER))]
    kinds = [kind for kind in kinds if any(span["name"] == kind for span in found)]
    columns = [f"{kind.upper()} (s)" for kind in kinds]
    show.table(["ROUND", "NODE", *columns, "MOVED"], _by_round(found, kinds, names))
    if not found:
        answer.hint("Nothing yet: a round must end first.")


def _by_round(found: Iterable[Json], kinds: Sequence[str], names: dict[str, str]) -> list[list[object]]:
    """A row for each round and node: seconds by kind, and the bytes of what was moved."""
    rows: dict[tuple[int, str], dict[str, float]] = {}
    for span in found:
        row = rows.setdefault((span["round"], span["node_id"]), {})
        row[span["name"]] = row.get(span["name"], 0.0) + span["seconds"]
        if span["name"] in ("fetch", "upload"):
            row["bytes"] = row.get("bytes", 0) + span["bytes"]
    ordered = sorted(rows.items(), key=lambda entry: (entry[0][0], names.get(entry[0][1], ""), entry[0][1]))
    return [
        [number, names.get(node) or show.node(node), *_seconds(row, kinds), show.size(row.get("bytes"))]
        for (number, node), row in ordered
    ]


def _seconds(row: dict[str, float], kinds: Sequence[str]) -> list[str]:
    return [show.figure(row.get(kind)) for kind in kinds]


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--node", help="Only this node: name, id, or the beginning of an id.")
@click.option("--scope", type=click.Choice(["host", "node", "worker"]), help="Only machines, nodes, or workers.")
@click.option("--all", "everything", is_flag=True, help="Also what is seldom of interest.")
@store_option
@common_options
@click.pass_obj
def system(answer: Answer, run_name: str, node: str | None, scope: str | None, everything: bool) -> None:
    """Show how busy the machines of RUN were while it went on: CPU, memory, disk, network, GPU.

    \b
    host    the machine, all programs
    node    the node's own process; shares are of one core
    worker  the process that trains, with what it started; shares are of one core

    Every node measures its own machine, and tells the others what its worker took while it trained.
    """
    asked = answer.record()
    found = asked.system_summary(run_name, node=node, scope=scope)["summary"]
    if answer.json:
        answer.give(found, "")
        return
    names = _names(asked.run(run_name))
    shown = [row for row in found if everything or row["key"] in _SHOWN or row["key"].startswith("gpu_")]
    ordered = sorted(shown, key=lambda row: (names.get(row["node_id"], ""), row["node_id"]))
    rows = [[names.get(row["node_id"]) or show.node(row["node_id"]), *_measured(row)] for row in ordered]
    show.table(["NODE", "SCOPE", "WHAT", "LATEST", "MEAN", "MOST", "SAMPLES"], rows)
    if not found:
        answer.hint("Nothing yet: machines are measured now and then while a run goes on.")


def _measured(row: Json) -> list[object]:
    what = f"{row['key']} {row['device']}".strip()
    if row["key"] in _COUNTED:  # they count up since the node started
        moved = show.size(row["max"] - row["min"]) if row["samples"] > 1 else ""
        return [row["scope"], what, moved, "", "", row["samples"]]
    figures = [_figure(row[which], row["unit"]) for which in ("latest", "mean", "max")]
    return [row["scope"], what, *figures, row["samples"]]


def _figure(value: float, unit: str) -> str:
    """A value as people read it; its name says its unit, but for bytes."""
    return show.size(value) if unit == "bytes" else f"{value:.1f}".removesuffix(".0")


def _names(run: Json) -> dict[str, str]:
    return {each["node_id"]: each["name"] for each in run["participants"]}
