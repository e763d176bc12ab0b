"""How long a run stands still when its aggregator dies: 8 run machines in virtual time, default timing, many seeds.

The machines are the real ones; messages, fetches and combining take the times of `run_world`, and training up to a
second. The aggregator dies at a random moment after the third commit and stays away. Prints median and worst, from its
death to the next commit at any survivor, and the seed of the worst.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "protocol"))

from run_world import IDS, World

NODES, SEEDS = 8, 100
ROUNDS = 1_000  # more than there is time for
DOWN_S = 10_000.0  # longer than it is measured
BEGIN_DEADLINE_S, COMMIT_DEADLINE_S = 120.0, 300.0


def failover_s(seed: int, nodes: int = NODES) -> float:
    """Virtual seconds from the aggregator's death to the next commit, in the world of `seed`."""
    world = World(seed, nodes, rounds=ROUNDS)
    while len(world.committed) < 4:
        world.run(world.now + 0.1)
        assert world.now < BEGIN_DEADLINE_S, f"seed {seed}: no third round"
    world.run(world.now + 2.0 * world.random.random())  # somewhere in a round
    aggregator = IDS.index(world.reigns[max(world.reigns)])
    world.crash(world.nodes[aggregator], DOWN_S)
    died_at, newest = world.now, max(world.committed)
    while max(world.committed) == newest:
        world.run(world.now + 0.05)
        assert world.now < died_at + COMMIT_DEADLINE_S, f"seed {seed}: nobody commits any more"
    return min(at for at, round_number in world.commit_times if round_number > newest) - died_at


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--nodes", type=int, default=NODES)
    given = options.parse_args()
    seconds = {seed: failover_s(seed, given.nodes) for seed in range(given.seeds)}
    worst = max(seconds, key=lambda seed: seconds[seed])
    median = statistics.median(seconds.values())
    print(
        f"{given.nodes} nodes, {given.seeds} seeds: median {median:.2f} s, worst {seconds[worst]:.2f} s (seed {worst})"
    )


if __name__ == "__main__":
    main()
