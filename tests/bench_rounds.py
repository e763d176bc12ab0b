"""Rounds of real nodes: processes with homes of their own on 127.0.0.1, signatures and recording on.

round_overhead_s     between consecutive commits of 10 nodes, small model, training that does nothing; the median
round_25m_vs_tls     one round of 4 nodes with 25 million parameters in fp32, training that does nothing, against
                     pushing the 2(N-1)M bytes that it must move through one TLS socket; bytes beside it: what all
                     nodes sent, over what they had to (2(N-1)M a round, and (N-1)M for the starting model)
round_25m_vs_bare    the same against one socket and a bare loop at either end, as bulk_vs_bare in bench_network
digits_10_real_cpu_s CPU seconds of `fednode demo` with 10 nodes and 10 rounds, less those with no rounds
idle_core_share, idle_resident_mb   a node of 11 that do nothing: the mean share of a core, the largest resident memory
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "real")]

from bench_network import plain_seconds  # noqa: E402
from nodes import RealNode, real_nodes, wait_until, wait_until_connected  # noqa: E402

SMALL_NODES, SMALL_ROUNDS, WARM_UP_ROUNDS = 10, 60, 10
LARGE_NODES, LARGE_ROUNDS, LARGE_ROWS = 4, 3, 25_000
LARGE_BYTES = LARGE_ROWS * 1000 * 4
IDLE_NODES = 11
SETTLE_S, IDLE_S = 20.0, 60.0  # what follows a start, such as first announcements, is over by then
RUN_DEADLINE_S = 900.0
DEMO_DEADLINE_S = 600.0

# Training is one addition. What it adds differs from node to node, round to round and weight to weight: equal blobs
# are one blob, and would not travel.
_TASK = """
import torch
from fednode import Data, Result, Task


class Nothing(Task):
    def model(self):
        return torch.nn.Linear(1000, int(self.parameters["rows"]), bias=False)

    def data(self, source):
        self.noise = torch.randn(int(self.parameters["rows"]), 1000, generator=torch.Generator().manual_seed(1))
        return Data((torch.zeros(1, 1),))

    def train(self, model, data, this_round):
        with torch.no_grad():
            model.weight.add_(self.noise, alpha=1e-6 * (1 + this_round.seed % 1000))
        return Result(samples=1)
"""
_CONFIGURATION = """
seed = {seed}
[task]
path = "{path}"
parameters = {{ rows = {rows} }}
[data]
name = "nothing"
[training]
rounds = {rounds}
[roster]
nodes_min = {nodes}
[aggregation]
codec = "{codec}"
"""


def figures() -> dict[str, float]:
    """All of them; about six minutes."""
    return {**small_figures(), **large_figures(), **demo_figures()}


def small_figures() -> dict[str, float]:
    with _group(IDLE_NODES) as (base, nodes):
        idle = _idle(nodes)
        run = _run(base, nodes[:SMALL_NODES], rows=1, rounds=SMALL_ROUNDS, codec="fp32")
        commits = _commit_times(nodes[0], run)
    between = [after - before for before, after in pairwise(commits[WARM_UP_ROUNDS:])]
    return {**idle, "round_overhead_s": round(statistics.median(between), 3)}


def large_figures() -> dict[str, float]:
    with _group(LARGE_NODES) as (base, nodes):
        found = {}
        for seed, (codec, size) in enumerate((("fp32", LARGE_BYTES), ("bf16", LARGE_BYTES // 2))):
            before = _bytes_sent(nodes)
            run = _run(base, nodes, rows=LARGE_ROWS, rounds=LARGE_ROUNDS, codec=codec, seed=seed)
            sent = _bytes_sent(nodes) - before
            needed = 2 * (LARGE_NODES - 1) * size * LARGE_ROUNDS + (LARGE_NODES - 1) * LARGE_BYTES
            commits = _commit_times(nodes[0], run)
            seconds = statistics.median(after - before for before, after in pairwise(commits))
            found[codec] = (seconds, sent / needed)
        bytes_moved = 2 * (LARGE_NODES - 1) * LARGE_BYTES
        tls_s, bare_s = (min(plain_seconds(way, bytes_moved, base) for _ in range(3)) for way in ("tls", "bare"))
    return {
        "round_25m_vs_tls": round(found["fp32"][0] / tls_s, 2),
        "round_25m_vs_bare": round(found["fp32"][0] / bare_s, 2),
        "round_25m_s": round(found["fp32"][0], 2),
        "round_25m_bytes_vs_optimum": round(found["fp32"][1], 3),
        "round_25m_bf16_s": round(found["bf16"][0], 2),
        "round_25m_bf16_bytes_vs_optimum": round(found["bf16"][1], 3),
    }


def demo_figures() -> dict[str, float]:
    with_rounds, without = _demo_cpu_s(10), _demo_cpu_s(0)
    return {
        "digits_10_real_cpu_s": round(with_rounds - without, 1),
        "digits_10_real_cpu_s_without_rounds": round(without, 1),
    }


# --- a group -----------------------------------------------------------------------------------------------------
@contextmanager
def _group(count: int) -> Iterator[tuple[Path, list[RealNode]]]:
    """Running nodes of one group that have a data set and know each other."""
    with tempfile.TemporaryDirectory(prefix="fednode-bench-") as folder:
        base = Path(folder)
        (base / "nothing.py").write_text(_TASK)
        with real_nodes(base, *(f"node-{number}" for number in range(count))) as nodes:
            first, *others = nodes
            first.client.create_group("bench")
            token = first.client.invite(uses=count)["token"]
            for node in others:
                node.client.join(token)
            for number, node in enumerate(nodes):
                # Of its own: draws follow from the data, and equal updates would be one blob that nobody has to send.
                (base / f"nothing-{number}.csv").write_text(f"x\n{number}\n")
                node.client.add_data("nothing", base / f"nothing-{number}.csv")
                node.client.set_policy(["mine"])
            wait_until_connected(nodes)
            try:
                yield base, nodes
            except Exception:  # what was measured is gone with the folder: show what the nodes said last
                for node in nodes:
                    print(
                        f"--- {node.name}:\n{node.stderr()}{(node.home / 'node.log').read_text()[-1500:]}",
                        file=sys.stderr,
                    )
                raise


def _run(base: Path, nodes: list[RealNode], *, rows: int, rounds: int, codec: str, seed: int = 0) -> str:
    """A whole run of these nodes; its id. Another `seed` makes another starting model, which then travels too."""
    text = _CONFIGURATION.format(
        path=base / "nothing.py", rows=rows, rounds=rounds, nodes=len(nodes), codec=codec, seed=seed
    )
    first, *others = nodes
    run = str(first.client.start_run(text, overrides={"name": f"{codec}-{rows}"})["run_id"])
    for node in others:
        wait_until(lambda node=node: any(seen["run_id"] == run for seen in node.client.runs()["runs"]), "the proposal")
        node.client.accept(run, task=base / "nothing.py")
    for node in nodes:
        ended = node.wait_for_end(run, RUN_DEADLINE_S)
        if ended["state"] != "FINISHED":
            raise RuntimeError(f"the run {ended['state'].lower()}: {ended['reason']}")
    return run


def _commit_times(node: RealNode, run: str) -> list[float]:
    rows = sorted(node.client.rounds(run)["rounds"], key=lambda row: int(row["round"]))
    return [datetime.fromisoformat(row["committed_at"].replace("Z", "+00:00")).timestamp() for row in rows]


def _bytes_sent(nodes: list[RealNode]) -> int:
    return sum(int(node.client.status()["bytes_sent"]) for node in nodes)


def _idle(nodes: list[RealNode]) -> dict[str, float]:
    time.sleep(SETTLE_S)
    processes = [psutil.Process(node.pid) for node in nodes]
    before, began = [_cpu_s(process) for process in processes], time.monotonic()
    time.sleep(IDLE_S)
    seconds = time.monotonic() - began
    shares = [(_cpu_s(process) - earlier) / seconds for process, earlier in zip(processes, before, strict=True)]
    resident = max(process.memory_info().rss for process in processes)
    return {"idle_core_share": round(statistics.mean(shares), 4), "idle_resident_mb": round(resident / 1e6, 1)}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _demo_cpu_s(rounds: int) -> float:
    """CPU seconds of the demo and of all that has ended below it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "node", "demo", "--nodes", "10", "--rounds", str(rounds), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    told: dict[str, Any] = json.loads(output.splitlines()[-1]) if child.returncode == 0 else {}
    if told.get("rounds_committed", 0) != rounds:
        raise RuntimeError(f"the demo ended with {child.returncode}: {told}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
