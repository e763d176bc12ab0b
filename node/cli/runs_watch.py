"""fednode run metrics, fednode run logs: what a run measures and says."""

import csv
import json
import sys
import time
from typing import Any

import click

from node.cli import show
from node.cli.common import Answer, common_options, indented, store_option

FOLLOW_INTERVAL_S = 0.5  # the record's own interval of writing
FOLLOW_LINES = 10_000  # at a time, when more was said than fits
ALL_LINES_MAX = 5000  # to begin with, of all nodes: what the API gives
METRIC_COLUMNS = (
    "run_id", "node_id", "scope", "split", "key", "class", "round", "epoch", "step", "value", "samples", "time",
)  # fmt: skip
ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--key", help="One measurement, such as accuracy.")
@click.option("--node", help="One node's; without it the mean over all nodes, weighted by samples.")
@click.option(
    "--scope",
    type=click.Choice(["global", "local"]),
    default="global",
    show_default=True,
    help="global: the round's checkpoint; local: a node's own model while it trains.",
)
@click.option("--split", type=click.Choice(["eval", "train"]))
@click.option("--after-round", type=click.IntRange(-1), help="Only later rounds.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Every single measurement as comma-separated values.")
@store_option
@common_options
@click.pass_obj
def metrics(answer: Answer, /, run_name: str, as_csv: bool, **filters: Any) -> None:
    """Show what RUN measured, a line per round. --json and --csv give every single measurement."""
    if as_csv and answer.json:
        raise click.UsageError("give either --json or --csv")
    found = answer.record().metrics(run_name, **filters)["metrics"]
    if answer.json:
        answer.give(found, "")
        return
    if as_csv:
        _write_csv(found)
        return
    measuring: dict[int, set[str]] = {}
    for point in found:
        measuring.setdefault(point["round"], set()).update([point["node_id"]] if point["node_id"] else [])
    if filters["node"] is None and filters["scope"] == "global":
        found = [point for point in found if not point["node_id"]]
    keys = list(dict.fromkeys(_column(point) for point in found))
    rounds: dict[tuple[int, str], dict[str, float | None]] = {}
    # A later step of a round takes the place of an earlier one, and the round as a whole that of all its steps.
    for point in sorted(found, key=lambda point: (point["epoch"], point["step"]) == (0, 0)):
        rounds.setdefault((point["round"], point["node_id"]), {})[_column(point)] = point["value"]
    rows = [
        [number, show.node(node_id) or _mean_of(measuring[number]), *(_value(values, key) for key in keys)]
        for (number, node_id), values in sorted(rounds.items())
    ]
    show.table(["ROUND", "NODE", *keys], rows)
    if not found:
        answer.hint(f"Nothing is measured yet. See where it is: fednode run show {run_name!r}")


def _mean_of(nodes: set[str]) -> str:
    """Whose mean it is: that of the nodes which have measured the round so far."""
    return f"mean of {len(nodes)}" if nodes else "mean"


def _write_csv(points: list[dict[str, Any]]) -> None:
    """A header and a line for each measurement, as RFC 4180 has it; what is not finite stays empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(METRIC_COLUMNS)
    for point in points:
        writer.writerow([point[column] for column in METRIC_COLUMNS])


def _column(point: dict[str, Any]) -> str:
    name = point["key"] if point["class"] is None else f"{point['key']}[{point['class']}]"
    return name if point["split"] == "eval" else f"{point['split']} {name}"


def _value(values: dict[str, float | None], key: str) -> str:
    if key not in values:
        return ""
    value = values[key]
    return "not finite" if value is None else show.figure(value)


@click.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends or the node stops.")
@click.option("--all", "of_all", is_flag=True, help="Also the other nodes', as far as their owners share them.")
@click.option("--node", help="One node's lines.")
@click.option(
    "--level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="Only this level and above.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@store_option
@common_options
@click.pass_obj
def logs(
    answer: Answer, /, run_name: str | None, follow: bool, of_all: bool, limit: int, **filters: str | None
) -> None:
    """Show what RUN's task and this node said about it; without RUN, everything that this node logged.

    With --all, what all of RUN's nodes said, in the order of their clocks. Each owner decides what is shared (fednode
    policy logs): none, errors, or all; paths and data are taken out of it. Who shares none, or errors alone, is named.
    """
    filters["level"] = filters["level"] and filters["level"].upper()
    if of_all:
        _show_all(answer, run_name, follow=follow, limit=min(limit, ALL_LINES_MAX), **filters)
        return
    client = answer.record()
    follow = follow and answer.store is None  # a file says no more
    told = client.logs(run_name, limit=limit, **filters)
    _print_lines(answer, told["logs"])
    if not told["logs"]:
        answer.hint("Nothing was said yet.")
    while follow:
        # Whether it has ended is asked before what it said: nothing that was said before the end is missed.
        ended = run_name is not None and client.run(run_name)["state"] in ENDED
        told = client.logs(run_name, limit=FOLLOW_LINES, after=told["next"], **filters)
        _print_lines(answer, told["logs"])
        if ended and not told["logs"]:
            break
        time.sleep(0 if told["logs"] else FOLLOW_INTERVAL_S)


def _show_all(answer: Answer, run_name: str | None, **query: Any) -> None:
    if run_name is None:
        raise click.UsageError("--all is about one run: name it")
    if answer.store is not None:
        raise click.UsageError("--all asks running nodes; a store has the lines of its own node")
    told = 0
    for event in answer.client().all_logs(run_name, **query):
        if event["type"] == "logs":
            told += len(event["logs"])
            _print_lines(answer, event["logs"])
        elif event["type"] == "node" and answer.json:
            click.echo(json.dumps(event, ensure_ascii=False), err=True)
        elif event["type"] == "node":
            answer.hint(f"{event['node_name'] or show.node(event['node_id'])}: {event['reason']}.")
    if not told:
        answer.hint("Nothing was said yet.")


def _print_lines(answer: Answer, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        _print_line(answer, line)


def _print_line(answer: Answer, line: dict[str, Any]) -> None:
    level = "" if line["level"] == "INFO" else f"{line['level']} "
    node = line.get("node_name") or show.node(line["node_id"])
    answer.give(line, f"{show.clock(line['time'])} {node} {level}{indented(line['message'])}")
