"""Real nodes with default timing on a machine whose every core is kept busy: does anybody call an election for nothing?

No process is killed and no link is broken, so every election after the first is spurious. Busy processes of the same
priority as the nodes, one for each core at least, take all the time that they get. Prints how it stands every so often,
and at the end elections, rounds, and the longest time without a commit. Exit code 1 when there was a spurious election.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "real"))

from nodes import Json, RealNode, Study, real_nodes

MINUTES, NODES = 30.0, 8
PAUSE_S = 2.0  # of training, in which a node only waits
REPORT_EVERY_S = 30.0
# Ends by itself when this process does, however that ends: then its input is closed.
BUSY = "import select, sys\nwhile not select.select([sys.stdin], [], [], 0)[0]:\n    sum(range(100_000))"


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many processes that compute without a pause."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def elections(nodes: list[RealNode], run: str) -> int:
    """The terms that there have been, by whoever knows of most."""
    return max(int(node.client.run(run)["term"]) for node in nodes)


def figures(minutes: float, nodes: int, busy: int) -> Json:
    """Elections after the first, rounds, and the longest time without a commit, of a run of `minutes`."""
    names = [f"node-{number}" for number in range(nodes)]
    with tempfile.TemporaryDirectory(prefix="fednode-") as folder, real_nodes(Path(folder), *names) as running:
        study = Study(running, Path(folder))
        study.form()
        run = study.propose(running[0], pause_s=PAUSE_S, timing="")
        running[0].wait_for_round(run, 2)
        first = elections(running, run)
        begun = time.monotonic()
        with busy_cores(busy):
            while (left := begun + 60 * minutes - time.monotonic()) > 0:
                time.sleep(min(left, REPORT_EVERY_S))
                seen = running[0].client.run(run)
                print(
                    f"{time.monotonic() - begun:6.0f} s  round {seen['round']}, term {seen['term']}, "
                    f"load {os.getloadavg()[0]:.1f}, clock late by {late_s():.2f} s",
                    flush=True,
                )
            last = elections(running, run)
        rows = running[0].client.rounds(run)["rounds"]
        running[0].client.stop_run(run)
        study.all_end(run)
        study.check_same_commits(run)
    at = [datetime.fromisoformat(row["committed_at"]).timestamp() for row in rows]
    return {
        "minutes": minutes,
        "nodes": nodes,
        "busy_processes": busy,
        "rounds": len(rows),
        "longest_without_commit_s": round(max(after - before for before, after in pairwise(at)), 2),
        "spurious_elections": last - first,
    }


def late_s() -> float:
    """How late a process wakes from a short sleep, now."""
    begun = time.monotonic()
    time.sleep(0.1)
    return time.monotonic() - begun - 0.1


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=MINUTES)
    options.add_argument("--nodes", type=int, default=NODES)
    options.add_argument("--busy", type=int, default=max(2, os.cpu_count() or 2), help="busy processes")
    given = options.parse_args()
    found = figures(given.minutes, given.nodes, given.busy)
    print(json.dumps(found, indent=2))
    return 1 if found["spurious_elections"] else 0


if __name__ == "__main__":
    sys.exit(main())
