"""`fednode simulate`: many nodes of the same code in this process, in virtual time.

Nothing heavy is imported before the command runs: `fednode --help` loads this module too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.common import Answer, common_options

if TYPE_CHECKING:
    from simulations.outcome import Simulation
    from simulations.play import Told

NODES_MAX = 1000  # beyond this the records of every node about every other need more memory than a laptop has
ROUNDS_MAX = 10_000
SEEDS_MAX = 100_000
PLAIN_NODES, PLAIN_ROUNDS = 20, 10
EXIT_FAILED = 1


@click.command()
@click.argument("scenario", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the scenarios that come with fednode.")
@click.option(
    "--nodes", type=click.IntRange(1, NODES_MAX), help=f"[default: the scenario's; without one {PLAIN_NODES}]"
)
@click.option(
    "--rounds", type=click.IntRange(1, ROUNDS_MAX), help=f"[default: the scenario's; without one {PLAIN_ROUNDS}]"
)
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Decides everything.")
@click.option(
    "--seeds", type=click.IntRange(1, SEEDS_MAX), default=1, show_default=True, help="Play so many, SEED and following."
)
@click.option(
    "--faults", metavar="N,N…", help="Only these of the faults that scenario and seed give, by their numbers."
)
@click.option("--no-shrink", is_flag=True, help="Where an invariant is violated, do not look for a shorter way there.")
@click.option("--exact", is_flag=True, help="Train one node after another, never together.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the results are kept. [default: simulations/ in the node's folder; of several seeds, nowhere]",
)
@common_options
@click.pass_obj
def simulate(
    answer: Answer,
    /,
    scenario: str | None,
    as_list: bool,
    seeds: int,
    seed: int,
    store: Path | None,
    faults: str | None,
    **options: Any,
) -> int:
    """Play a whole group on this machine: the nodes' own code on a simulated network, disk and clock.

    SCENARIO is a file (TOML), or the name of one that comes with fednode; it says what goes wrong, and what must hold
    all the same. Without one nothing goes wrong: nodes with unevenly dealt handwritten digits train together.

    The same seed gives the same trace, to the bit; the hash of it ends the output.
    """
    if as_list:
        return _list(answer)
    if seeds > 1 and (store is not None or faults is not None):
        raise click.UsageError("--store and --faults go with one seed")
    from simulations.outcome import Wish, perform

    wish = Wish(scenario, options["nodes"], options["rounds"], seed, _numbers(faults), options["exact"])
    if seeds > 1:
        return _several(answer, wish, seeds)
    path = store or _default_store(answer, wish.label)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with nullcontext(_ignore) if answer.json else _progress_bar() as on_progress:
        simulation = perform(wish, path, shrinking=not options["no_shrink"], on_progress=on_progress)
    answer.give({**simulation.as_json(), "store": str(path)}, lambda: simulation.text(path))
    return 0 if simulation.is_right else EXIT_FAILED


def _list(answer: Answer) -> int:
    from node.cli import show
    from simulations.plan.read import load_scenario, shipped_names

    found = [(name, load_scenario(name).scenario) for name in shipped_names()]
    if answer.json:
        answer.give([{"name": name, "nodes": one.nodes, "title": one.title} for name, one in found], "")
    else:
        show.table(["NAME", "NODES", "WHAT"], [[name, one.nodes, one.title] for name, one in found])
    return 0


def _several(answer: Answer, wish: Any, seeds: int) -> int:
    """One after another, a line each; what failed is named with the command that replays it."""
    from simulations.outcome import perform, trace_of_all

    done: list[Simulation] = []
    with nullcontext(_ignore) if answer.json else _progress_bar() as on_progress:
        for seed in range(wish.seed, wish.seed + seeds):
            done.append(perform(wish.with_seed(seed), None, shrinking=False, on_progress=on_progress))
            if not answer.json:
                click.echo(done[-1].line())
    failed = [one for one in done if not one.is_right]
    trace = trace_of_all(done)
    summary = f"{len(done) - len(failed)} of {len(done)} seeds did as they should\n"
    summary += "".join(f"replay:  {one.replay}\n" for one in failed)
    told = {"simulations": [one.as_json() for one in done], "failed": [one.wish.seed for one in failed], "trace": trace}
    answer.give(told, f"{summary}trace {trace}")
    return EXIT_FAILED if failed else 0


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.UsageError(f"--faults is {text!r}; it takes numbers with commas between them: 0,4,7") from None


def _default_store(answer: Answer, label: str) -> Path:
    from fednode_endpoints import home_path

    return Path(home_path(answer.home)) / "simulations" / f"{label}.duckdb"


def _ignore(told: "Told") -> None:
    """Programs see the result alone."""


@contextmanager
def _progress_bar() -> Iterator[Callable[["Told"], None]]:
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
        task: Any = bar.add_task("starting", total=1, virtual=0.0)

        def on_progress(told: "Told") -> None:
            bar.update(task, description=told.phase, completed=told.round, total=told.rounds, virtual=told.virtual_s)

        yield on_progress
