"""fednode demo: the whole story on one machine."""

from pathlib import Path

import click

from node.cli.common import Answer, common_options

NODES_MAX = 32  # each is a process or two of some 300 MB
ROUNDS_MAX = 1000
CODECS = ("fp32", "bf16", "fp16", "int8", "top10", "top1")  # the manifest's; asking it would load pydantic


@click.command()
@click.option("--nodes", type=click.IntRange(2, NODES_MAX), default=4, show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(0, ROUNDS_MAX),
    default=10,
    show_default=True,
    help="0 starts and stops everything without training.",
)
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    default="bf16",
    show_default=True,
    help="How updates travel, as aggregation.codec in a run's configuration.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the nodes' homes in this new folder, to start them again or to look into them.",
)
@common_options
@click.pass_obj
def demo(answer: Answer, nodes: int, rounds: int, codec: str, keep: Path | None) -> int:
    """See the whole story on this machine: real nodes, real sockets, real data, one model.

    Starts some nodes, lets them form a group, gives each its own share of handwritten digits, trains, and shows what
    came of it, beside what each node could have learned alone. Everything is stopped in the end, and when you press
    Ctrl-C. With --json the last line is a JSON object, and progress goes to standard error. The nodes live in a
    new folder, not in --home, which no part of the demo reads.
    """
    from node.demo.demo import run_demo

    return run_demo(nodes=nodes, rounds=rounds, codec=codec, keep=keep, json=answer.json)
