"""Chaos: real nodes train while a seeded script kills, freezes and cuts them off, the aggregator included.

At the end the run must have finished, all nodes must agree on every committed checkpoint, and no process may be left.
Prints what happens as it happens. A failure prints the seed, which gives the same script again, and the ends of the
nodes' logs.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "real"))

from fault_script import TIMING, Player, check_agreement, script
from nodes import RealNode, Study, real_nodes

END_DEADLINE_S = 180.0  # after the script, for what is left of the rounds; a busy machine takes its time
MINUTES, NODES, ROUNDS = 4.0, 8, 30


def play(base: Path, seed: int, *, nodes: int, rounds: int, seconds: float, say: Callable[[str], None]) -> None:
    """Play the script of `seed` on new nodes below `base`. Raises AssertionError when anything comes out wrong."""
    names = [f"node-{number}" for number in range(nodes)]
    running: list[RealNode] = []
    say(f"chaos with seed {seed}: {nodes} nodes, {rounds} rounds, {seconds:.0f} s of faults")
    try:
        with real_nodes(base, *names, breakable=True) as running:
            study = Study(running, base)
            study.form()
            # Without faults the rounds would take half of the script's time.
            run = study.propose(running[0], rounds, pause_s=seconds / rounds / 2, timing=TIMING)
            running[0].wait_for_round(run, 1)
            player = Player(study, run, say)
            player.play(script(seed, nodes, seconds))
            term = check_agreement(study, run, rounds, END_DEADLINE_S)
            say(f"{player.faults_played} faults; finished in term {term}; all nodes agree on all {rounds} rounds")
    except BaseException:
        say(f"failed with seed {seed}")
        for node in running:
            say(f"--- the end of {node.name}'s log\n{node.stderr()}")
        raise


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of the script")
    options.add_argument("--minutes", type=float, default=MINUTES, help="of faults")
    options.add_argument("--nodes", type=int, default=NODES)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fednode-") as folder:
        play(
            Path(folder),
            given.seed,
            nodes=given.nodes,
            rounds=given.rounds,
            seconds=given.minutes * 60,
            say=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main()
