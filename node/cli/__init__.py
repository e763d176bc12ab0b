"""The command `fednode`. Commands are loaded when they are used, so that `--help` and most commands start at once.

Nothing here may import torch, libp2p, duckdb, trio, pydantic, httpx or starlette when a command starts; a test looks.
"""

import click

from node.cli.common import CommandTable, common_options

# Name, where it is, and what the list of commands says of it. The order is that of a first day.
COMMANDS = {
    "demo": ("node.cli.demo:demo", "See the whole story on this machine: real nodes train a model together."),
    "start": ("node.cli.nodes:start", "Start this machine's node; the first start makes its identity."),
    "status": ("node.cli.nodes:status", "Show who the node is, where it is, and what it does."),
    "stop": ("node.cli.nodes:stop", "Stop the node in good order."),
    "group": ("node.cli.groups:group", "Create, list and show groups."),
    "invite": ("node.cli.groups:invite", "Print a token that lets somebody into a group."),
    "join": ("node.cli.groups:join", "Enter a group with a token."),
    "key": ("node.cli.keys:key", "Look after the keys that are your identity: passphrase, backups."),
    "token": ("node.cli.tokens:token", "Explain a token before it is used."),
    "peers": ("node.cli.nodes:peers", "List the nodes of your groups."),
    "link": ("node.cli.own_nodes:link", "Print a token that makes one more machine a node of yours."),
    "nodes": ("node.cli.own_nodes:nodes", "List your own nodes, and shut out one that is lost."),
    "profile": ("node.cli.own_nodes:profile", "Show or change what you say of yourself to your groups."),
    "doctor": ("node.cli.doctor:doctor", "See what is wrong with this node, and what to do about it."),
    "data": ("node.cli.data:data", "Register your own data sets. They never leave this machine."),
    "run": ("node.cli.runs:run", "Start, follow, accept and stop runs."),
    "inbox": ("node.cli.inbox:inbox", "Show everything that waits for you, in one list."),
    "policy": ("node.cli.policy:policy", "Say which runs this node accepts by itself."),
    "model": ("node.cli.models:model", "Get, name and compare trained models."),
    "predict": ("node.cli.predict:predict", "Evaluate a model on data of your own, or predict with it."),
    "artifacts": ("node.cli.artifacts:artifacts", "List and get what tasks have made."),
    "report": ("node.cli.report:report", "Write a run as one page to keep or to send."),
    "metrics": ("node.cli.metrics:metrics", "Print or serve what the node counts, for Prometheus."),
    "sql": ("node.cli.sql:sql", "Ask the node's record in SQL."),
    "store": ("node.cli.store:store", "Look after the record: what it keeps, its room, copies of it."),
    "blobs": ("node.cli.blobs:blobs", "Look after models, updates and artifacts: their room, whether they are sound."),
    "transfers": ("node.cli.transfers:transfers", "List what is on its way to and from other nodes."),
    "limits": ("node.cli.transfers:limits", "Show or change how fast blobs go, and what room they take."),
    "import": ("node.cli.imports:import_command", "Take in what another node has exported."),
    "export": ("node.cli.export:export", "Export runs to MLflow, TensorBoard or Parquet."),
}
# Commands of the rooms above, found by entry point; these are what the list says of them without loading them.
ENTRY_POINTS = "fednode.commands"
KNOWN_ABOVE = {
    "tui": "Watch everything in a full-screen dashboard.",
    "web": "Show the dashboard in a browser on this machine.",
    "simulate": "Run a scenario of many simulated nodes on this machine.",
}


class Fednode(CommandTable):
    """The root: its own commands and those of installed packages."""

    table = COMMANDS
    entry_points = ENTRY_POINTS
    known_above = KNOWN_ABOVE


@click.group(cls=Fednode, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=Fednode.print_version)
@common_options
def cli() -> None:
    """Train models together, with no server in the middle.

    Everyone runs a node. A group's nodes train one model together; nobody's data leaves its machine.

    \b
    First steps:
      fednode demo                      four nodes on this machine, start to end
      fednode start --detach            run your node in the background
      fednode group create NAME         begin a group, then: fednode invite
      fednode join TOKEN                or enter somebody's
      fednode data add digits ./data    register your own data
      fednode run template > study.toml
      fednode run start study.toml

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the node is not running, 4 refused.
    """


def main() -> None:
    """Run the command that the process was called with."""
    cli.main(prog_name="fednode")
