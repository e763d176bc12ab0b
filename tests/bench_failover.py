"""Measures how long a run stands still when its aggregator is killed: 5 real nodes, digits, default timing.

`figures()` gives the median over several kills in one run: from SIGKILL to the first round that the next aggregator
commits, by the survivors' own records. Between kills the killed node comes back and takes part again.
"""

import json
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "real"))

from nodes import DIGITS, RealNode, Study, real_nodes, wait_until

NODES = 5
KILLS = 5


def figures(kills: int = KILLS) -> dict[str, float]:
    """failover_s: seconds from the aggregator's SIGKILL to the next committed round, the median of `kills`."""
    return {"failover_s": round(statistics.median(failovers(kills)), 2)}


def failovers(kills: int) -> list[float]:
    """Seconds without a commit, for each kill."""
    names = [f"node-{number}" for number in range(NODES)]
    with tempfile.TemporaryDirectory(prefix="fednode-") as folder, real_nodes(Path(folder), *names) as nodes:
        study = Study(nodes, Path(folder))
        study.form()
        run = study.propose(nodes[0], task=DIGITS, timing="")
        nodes[0].wait_for_round(run, 3)
        seconds = []
        for _ in range(kills):
            seconds.append(_failover(study, run))
            study.heal()
            wait_until(lambda: study.takes_part(nodes[0], run), "all nodes take part again")
        nodes[0].client.stop_run(run)
        study.all_end(run)
    return seconds


def _failover(study: Study, run: str) -> float:
    """Kill the aggregator; the seconds until the first commit of a later term, at the first survivor to have it."""
    killed = study.aggregator_of(run)
    term = killed.client.run(run)["term"]
    survivors = [node for node in study.nodes if node is not killed]
    killed_at = time.time()
    killed.kill()

    def commits() -> list[float]:
        return [at for node in survivors for at in _commits_after(node, run, term)]

    return min(wait_until(commits, "another aggregator commits")) - killed_at


def _commits_after(node: RealNode, run: str, term: int) -> list[float]:
    rows = node.client.rounds(run)["rounds"]
    return [datetime.fromisoformat(row["committed_at"]).timestamp() for row in rows if row["term"] > term]


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
