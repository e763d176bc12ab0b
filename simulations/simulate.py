"""The plain simulation: so many nodes train the digits for so many rounds, and nothing goes wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simulations.plan.read import RUN, Read
from simulations.plan.scenario import Cohort, Profile, Scenario
from simulations.play import Played, Told, play

Progress = Told

CONFIGURATION = """
name = "simulation"
project = "simulations"
seed = {seed}
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = {rounds}
epochs = 2
batch_size = 32
learning_rate = 0.1
momentum = 0.9
[roster]
nodes_min = {nodes}
"""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of a simulation. `trace` is the same for the same arguments and the same versions of libraries."""

    run_id: str
    outcome: str
    rounds_committed: int
    accuracy: float | None
    aggregator: str
    elections: int
    virtual_s: float
    real_s: float
    cpu_s: float
    events: int
    trace: str

    @classmethod
    def of(cls, played: Played) -> "Simulated":
        return cls(**{name: getattr(played, name) for name in cls.__slots__})


def plain(nodes: int, rounds: int, samples_per_s: float = 2000.0) -> Read:
    """A scenario in which nothing goes wrong."""
    everybody = Cohort(name="nodes", share=1.0, samples_per_s=samples_per_s)
    scenario = Scenario(title="nothing goes wrong", nodes=nodes, network=Profile(), cohort=(everybody,))
    return Read("simulation", scenario, RUN, {"training.rounds": rounds})


def simulate(
    nodes: int,
    rounds: int,
    seed: int,
    store: Path | None,
    *,
    samples_per_s: float = 2000.0,
    exact: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Simulated:
    """Play `nodes` nodes through a run of `rounds` rounds. What they record goes into one store at `store`.

    Invariants are not looked at: that is for scenarios (simulations.play), and costs time."""
    read = plain(nodes, rounds, samples_per_s)
    return Simulated.of(play(read, nodes, seed, store, watching=False, exact=exact, on_progress=on_progress))
