"""Swarm: how long a checkpoint of 24 MiB takes to 100 simulated nodes with lines of 10 Mbit/s, in virtual time.

swarm_100_vs_copy: until the last has it, over the time of one copy over one line. swarm_100_origin_copies: copies that
the node sent which had it first.
"""

from swarms import Swarm, run_swarm

NODES = 100
CHUNKS = 24


def figures() -> dict[str, float]:
    found: dict[str, float] = {}

    async def measure(swarm: Swarm) -> None:
        await swarm.enter(NODES + 1)
        await swarm.spread()
        found["swarm_100_vs_copy"] = round(swarm.last_s() / swarm.copy_s, 2)
        found["swarm_100_origin_copies"] = round(swarm.origin_copies(), 2)

    run_swarm(measure, CHUNKS)
    return found
