"""`fednode simulate`: many nodes of the same code in this process, in virtual time.

Nothing heavy is imported before the command runs: `fednode --help` loads this module too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.common import Answer, common_options

if TYPE_CHECKING:
    from simulations.simulate import Progress, Simulated

NODES_MAX = 1000  # beyond this the records of every node about every other need more memory than a laptop has
ROUNDS_MAX = 10_000


@click.command()
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(1, ROUNDS_MAX), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Decides everything.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the results are kept. [default: simulations/ in the node's folder]",
)
@common_options
@click.pass_obj
def simulate(answer: Answer, nodes: int, rounds: int, seed: int, store: Path | None) -> None:
    """Play a whole group on this machine: the nodes' own code on a simulated network and clock.

    The nodes form a group, share out handwritten digits unevenly, and train together. The same seed gives the same
    trace, to the bit; the hash of it ends the output.
    """
    from simulations.simulate import simulate as play

    path = store or _default_store(answer, nodes, rounds, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with nullcontext(_ignore) if answer.json else _progress_bar(rounds) as on_progress:
        result = play(nodes, rounds, seed, path, on_progress=on_progress)
    answer.give(
        {**asdict(result), "nodes": nodes, "seed": seed, "store": str(path)}, lambda: _text(result, nodes, path)
    )


def _default_store(answer: Answer, nodes: int, rounds: int, seed: int) -> Path:
    from fednode_client import home_path

    return Path(home_path(answer.home)) / "simulations" / f"{nodes}-nodes-{rounds}-rounds-seed-{seed}.duckdb"


def _ignore(progress: "Progress") -> None:
    """Programs see the result alone."""


@contextmanager
def _progress_bar(rounds: int) -> Iterator[Callable[["Progress"], None]]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TextColumn("round {task.completed:.0f} of {task.total:.0f}"),
        bars.TextColumn("virtual {task.fields[virtual]:.1f} s, real"),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task: Any = bar.add_task("starting", total=rounds, virtual=0.0)

        def on_progress(progress: "Progress") -> None:
            bar.update(task, description=progress.phase, completed=progress.round, virtual=progress.virtual_s)

        yield on_progress


def _text(result: "Simulated", nodes: int, store: Path) -> str:
    accuracy = "not measured" if result.accuracy is None else f"{100 * result.accuracy:.1f} %"
    return "\n".join(
        (
            f"{nodes} nodes, {result.rounds_committed} rounds committed, {result.outcome.lower()}",
            f"accuracy over all nodes' held-out data: {accuracy}",
            f"aggregator: {result.aggregator}, elections: {result.elections}",
            f"virtual time {result.virtual_s:.1f} s; took {result.real_s:.1f} s, {result.cpu_s:.1f} CPU seconds",
            "(a signature that several nodes check over the same bytes is computed once)",
            "",
            f"look further:  fednode tui --store {store}",
            f'               fednode sql --store {store} "select * from runs"',
            f"trace {result.trace}",
        )
    )
