"""Simulations: CPU seconds of ten simulated nodes that train the digits for ten rounds, start-up included.

What 1,000 nodes take, and what training many nodes in one batch gains, is measured once there is such a scenario.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NODES, ROUNDS = 10, 10

_SIMULATE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from simulations.simulate import simulate

print(json.dumps(asdict(simulate(int(sys.argv[1]), int(sys.argv[2]), 0, Path(sys.argv[3])))))
"""


def figures() -> dict[str, float]:
    """digits_10_sim_cpu_s: user and system seconds of a process of its own, from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="fednode-bench-") as folder:
        store = Path(folder) / "store.duckdb"
        child = subprocess.Popen(
            [sys.executable, "-c", _SIMULATE, str(NODES), str(ROUNDS), str(store)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
    if child.returncode != 0:
        raise RuntimeError(f"the simulation ended with {child.returncode}")
    told = json.loads(output.splitlines()[-1])
    if (told["outcome"], told["rounds_committed"]) != ("FINISHED", ROUNDS):
        raise RuntimeError(f"the simulated run did not finish: {told}")
    return {
        "digits_10_sim_cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "digits_10_sim_accuracy": told["accuracy"],
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
