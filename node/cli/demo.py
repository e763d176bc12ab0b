"""fednode demo: the whole story on one machine."""

import click

from node.cli.common import Answer, common_options


@click.command()
@click.option("--nodes", type=click.IntRange(2, 32), default=4, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--keep", is_flag=True, help="Leave the nodes running and their folders in place.")
@common_options
@click.pass_obj
def demo(answer: Answer, nodes: int, rounds: int, keep: bool) -> int:
    """See the whole story on this machine: real nodes, real sockets, real data, one model.

    Starts some nodes, lets them form a group, gives each its own share of handwritten digits, trains, and shows what
    came of it.
    """
    from node.demo import run_demo

    return run_demo(nodes=nodes, rounds=rounds, keep=keep, json=answer.json) or 0
