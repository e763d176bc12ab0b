"""Simulations: CPU seconds of ten simulated nodes that train the digits for ten rounds, start-up included.

sim_1000_nodes_s: CPU seconds of 1,000 simulated nodes that go through ten rounds in which training does nothing
(tests/scaling.py), start-up included. A check of the very same bytes is made once for all nodes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import scaling

ROOT = Path(__file__).resolve().parents[1]
NODES, ROUNDS = 10, 10
LARGE_NODES = 1000

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
        "sim_1000_nodes_s": scaling.measure(LARGE_NODES, ROUNDS)["cpu_s"],
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
