"""fednode artifacts: what this node's tasks have made and kept, listed and written to files."""

import sys
from pathlib import Path
from typing import Any

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, common_options, store_option
from node.cli.files import write_file

NAMES_SHOWN = 5  # of what there is, to whoever asked for something else


@click.group()
def artifacts() -> None:
    """List and get what a run's task has made: figures, tables, files.

    They stay on the node whose task made them, as its data does: each node shows its own. A task makes them by
    fednode.log_artifact, log_figure, log_text and log_dict.
    """


@artifacts.command("list")
@click.argument("run_name", metavar="RUN")
@store_option
@common_options
@click.pass_obj
def list_artifacts(answer: Answer, run_name: str) -> None:
    """List what RUN's task has made on this node."""
    found = answer.record().artifacts(run_name)["artifacts"]
    if answer.json:
        answer.give(found, "")
        return
    show.table(["NODE", "ROUND", "NAME", "KIND", "SIZE", "TIME"], [_row(entry) for entry in found])
    if not found:
        answer.hint("None on this node. A task makes one by fednode.log_artifact(path), or log_figure(figure, name).")
    elif answer.store is None:
        answer.hint(f"Get one: fednode artifacts get {run_name!r} {found[0]['name']!r}")


def _row(entry: dict[str, Any]) -> list[object]:
    node = entry["node_name"] or show.node(entry["node_id"])
    return [
        node, entry["round"], entry["name"], entry["kind"], show.size(entry["bytes"]), show.moment(entry["time"])
    ]  # fmt: skip


@artifacts.command("get")
@click.argument("run_name", metavar="RUN")
@click.argument("name", metavar="NAME")
@click.option("--node", help="Whose; needed where several nodes have one of this name.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="[default: the last part of NAME]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@common_options
@click.pass_obj
def get(answer: Answer, run_name: str, name: str, node: str | None, output: str | None, force: bool) -> None:
    """Write the artifact NAME of RUN to a file. Its bytes are checked against their hash on the way."""
    client = answer.client()
    owner = node or _owner(client.artifacts(run_name)["artifacts"], run_name, name)
    pieces = client.artifact(run_name, owner, name)
    if output == "-":
        sys.stdout.buffer.writelines(pieces)
        return
    target = Path(output or name.rsplit("/", 1)[-1])
    size = write_file(target, pieces, force=force)
    answer.give({"path": str(target.absolute()), "bytes": size}, f"{target}, {show.size(size)}")


def _owner(found: list[dict[str, Any]], run_name: str, name: str) -> str:
    """The node that has it. Raises ClientError unless it is one."""
    owners = [str(entry["node_id"]) for entry in found if entry["name"] == name]
    if not owners:
        names = ", ".join(repr(entry["name"]) for entry in found[:NAMES_SHOWN]) or "none"
        more = " …" if len(found) > NAMES_SHOWN else ""
        raise ClientError(
            f"No artifact of {run_name} is called {name!r} on this node; there are: {names}{more}",
            remedy="see fednode artifacts list; other nodes' artifacts stay with them",
        )
    if len(owners) > 1:
        raise ClientError(f"{len(owners)} nodes have an artifact {name!r}", remedy="name one with --node")
    return owners[0]
