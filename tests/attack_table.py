"""How the rules bear liars: `make attacks`. Trains digits with every rule and every attack of simulations.rule_trials,
with no to four liars among ten, and writes the table in docs/rules.md. Some minutes of one core.

    python tests/attack_table.py [SEED ...]     accuracies are means over the seeds
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulations.rule_trials import ATTACKS, EVENNESS, LIARS_MAX, TRIED, Classroom, Trial  # noqa: E402

SEEDS = (0, 1, 2)
PAGE = ROOT / "docs" / "rules.md"
BEGIN, END = "<!-- measured by make attacks -->", "<!-- end of what make attacks measured -->"
FALLEN = 0.03  # below the clean run of the mean, and the table says so

Accuracies = Mapping[Trial, float]


@dataclass(frozen=True)
class Table:
    """What stands above it, how alike the participants' data are, and how many lie."""

    title: str
    evenness: float
    liars: Sequence[int]


TABLES = (
    Table("Participants with much the same data", EVENNESS, range(1, LIARS_MAX + 1)),
    Table("Participants with different data: most hardly know half of the digits", 0.5, (2,)),
)


def measure(wanted: Table, seeds: Sequence[int]) -> Accuracies:
    """By trial, the mean over the seeds."""
    lies = [("", 0), *((attack, liars) for attack in ATTACKS for liars in wanted.liars)]
    found: dict[Trial, list[float]] = {Trial(tried, *lie): [] for lie in lies for tried in TRIED}
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="fednode-attacks-") as folder:
            room = Classroom(Path(folder), seed, wanted.evenness)
            for trial, accuracies in found.items():
                accuracies.append(room.accuracy(trial))
                lie = f"{trial.liars} with {trial.attack}" if trial.liars else "nobody lies"
                print(f"seed {seed}, {lie}, {trial.tried}: {accuracies[-1]:.3f}", flush=True)
    return {trial: sum(accuracies) / len(accuracies) for trial, accuracies in found.items()}


def table(accuracies: Accuracies) -> str:
    lines = [f"| attack | liars | {' | '.join(TRIED)} |", "| --- | ---: |" + " ---: |" * len(TRIED)]
    floor = accuracies[Trial(next(iter(TRIED)))] - FALLEN
    for attack, liars in dict.fromkeys((trial.attack, trial.liars) for trial in accuracies):
        row = (accuracies[Trial(tried, attack, liars)] for tried in TRIED)
        cells = [f"{100 * value:.0f}" if value >= floor else f"**{100 * value:.0f}**" for value in row]
        lines.append(f"| {attack or 'none'} | {liars} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(seeds: Sequence[int]) -> None:
    made = "\n\n".join(f"### {wanted.title}\n\n{table(measure(wanted, seeds))}" for wanted in TABLES)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")
    print(f"{made}\n{time.process_time():.0f} CPU seconds")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or SEEDS)
