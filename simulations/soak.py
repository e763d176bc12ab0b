"""`python -m simulations.soak SEEDS [SCENARIO …]`: the shipped scenarios by many seeds, a process on each core.

Prints a line for every failing seed with the command that replays it, and a summary; exits with 1 if any failed.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple

from simulations.outcome import Wish, perform
from simulations.plan.read import shipped_names

FIRST_SEED = 1
# A week of heartbeats shows on its second day what it shows on its seventh.
ROUNDS = {"quiet-week": 2}
# Of one process: what libraries remember of simulations that are over must not fill the memory.
SIMULATIONS_A_PROCESS = 50


class Done(NamedTuple):
    """One simulation's line, and the command that replays it where it failed."""

    scenario: str
    line: str
    replay: str


def soak_one(scenario: str, seed: int) -> Done:
    """One scenario by one seed. Whatever it raises is a failure with a replay too."""
    wish = Wish(scenario, None, ROUNDS.get(scenario), seed)
    try:
        simulation = perform(wish, None, shrinking=False)
    except Exception as error:  # noqa: BLE001 - a simulation that breaks must not end the other thousands
        line = f"{scenario} seed {seed}: BROKE: {type(error).__name__}: {error}"
        return Done(scenario, line, f"fednode simulate {scenario} --seed {seed}")
    return Done(scenario, simulation.line(), "" if simulation.is_right else simulation.replay)


def jobs(seeds: int, scenarios: Sequence[str], first: int = FIRST_SEED) -> Iterator[tuple[str, int]]:
    """Seed by seed through all scenarios, so that a soak that is cut short has looked at all of them."""
    return ((scenario, seed) for seed in range(first, first + seeds) for scenario in scenarios)


def soak(seeds: int, scenarios: Sequence[str], first: int = FIRST_SEED) -> int:
    """Play them all. Gives how many failed."""
    work, failed, done = jobs(seeds, scenarios, first), 0, 0
    cores = os.cpu_count() or 1
    while batch := list(islice(work, SIMULATIONS_A_PROCESS * cores)):
        with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
            for one in pool.map(soak_one, *zip(*batch, strict=True)):
                done += 1
                failed += bool(one.replay)
                _say(one.line + (f"\n  replay:  {one.replay}" if one.replay else ""))
    _say(f"{done - failed} of {done} simulations did as they should")
    return failed


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(words: Sequence[str]) -> int:
    """SEEDS, or SEEDS+FIRST for those from FIRST on, then scenarios; without any, those that come with fednode."""
    seeds, _, first = (words[0] if words else "").partition("+")
    if not seeds.isdecimal() or (first and not first.isdecimal()):
        sys.stderr.write("usage: python -m simulations.soak SEEDS[+FIRST] [SCENARIO …]\n")
        return 2
    return 1 if soak(int(seeds), words[1:] or shipped_names(), int(first or FIRST_SEED)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
