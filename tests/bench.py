"""Measures fednode and shows the figures beside what they should reach: `make bench`.

    python tests/bench.py [MODULE ...]      all of them, or only those named: network rounds cli …

Every module tests/bench_MODULE.py has a function `figures()`, which is called in a process of its own. The figures that
TARGETS names go into build/bench.json, a flat object: null where nothing has been measured yet. Modules that are left
out keep the values that are there. Exit code 1 when a module fails; a missed target is shown, and is no failure.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "bench.json"
MODULE_DEADLINE_S = 2 * 3600.0  # the longest watches a saturated machine for half an hour, several times over


@dataclass(frozen=True)
class Target:
    """`reach` is the least that is wanted, or the most where `at_most`. `module` measures it."""

    module: str
    reach: float
    at_most: bool
    what: str

    def is_reached(self, value: float) -> bool:
        return value <= self.reach if self.at_most else value >= self.reach

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.reach:g}"


def at_least(module: str, reach: float, what: str) -> Target:
    return Target(module, reach, False, what)


def at_most(module: str, reach: float, what: str) -> Target:
    return Target(module, reach, True, what)


# Two cores; ratios are of measurements in one run.
TARGETS = {
    "bulk_vs_tls": at_least("network", 0.6, "bulk transfer into a blob, against plain TLS 1.3 into memory"),
    "bulk_vs_bare": at_least("network", 0.6, "the same, against a bare loop that reads, hashes, sends, hashes, writes"),
    "bulk_vs_libp2p": at_least("network", 5, "bulk transfer, against a libp2p stream"),
    "round_25m_vs_tls": at_most("rounds", 3, "a round of 25 M parameters, 4 nodes, against its bytes through TLS"),
    "round_25m_vs_bare": at_most("rounds", 3, "the same against a bare loop that reads, hashes, sends, hashes, writes"),
    "failover_s": at_most("failover", 15, "from the aggregator's death to the next commit, median of 5"),
    "add_vs_copy": at_least("aggregation", 0.15, "hash, check and add an update, against copying its bytes"),
    "median10_vs_torch": at_least("rules", 6, "coordinate median of 10, against torch.median"),
    "median50_vs_torch": at_least("rules", 3, "coordinate median of 50, against torch.median"),
    "codec_bf16_decode_vs_copy": at_least("codecs", 0.5, "a bf16 update to float32, against copying its values"),
    "codec_int8_decode_vs_copy": at_least("codecs", 0.3, "the same of int8"),
    "codec_int8_ratio": at_least("codecs", 3.9, "float32's bytes to int8's"),
    "aggregator_bytes_per_param": at_most("aggregation", 10, "peak memory of combining 50 updates, a parameter"),
    "round_overhead_s": at_most("rounds", 0.25, "between commits, 10 nodes, training that does nothing"),
    "sim_1000_nodes_s": at_most("simulation", 60, "1,000 simulated nodes, 10 rounds, CPU"),
    "swarm_100_vs_copy": at_most("swarm", 2.5, "a checkpoint to 100 simulated nodes at 10 Mbit/s, against one copy"),
    "swarm_100_origin_copies": at_most("swarm", 6.6, "copies of it that its maker sends: log2 of 100"),
    "sim_batch_speedup": at_least("batched", 8, "100 nodes trained in one batch, against one by one"),
    "ingest_rows_per_s": at_least("tracker", 30_000, "metrics into the store"),
    "store_resident_mb": at_most("tracker", 200, "the store at 10 M metric rows, over an empty process"),
    "dashboard_1m_ms": at_most("record", 250, "the slowest of the dashboard's questions at 1 M metric rows"),
    "dashboard_10m_ms": at_most("record", 500, "the same at 10 M: it repaints twice a second"),
    "ingest_vs_mlflow_file": at_least("record", 1, "rows a second, against MLflow's client on files"),
    "ingest_vs_mlflow_sqlite": at_least("record", 1, "the same against SQLite"),
    "digits_10_real_cpu_s": at_most("rounds", 60, "10 real nodes, 10 rounds of digits, CPU"),
    "digits_10_sim_cpu_s": at_most("simulation", 10, "the same simulated, CPU, start-up included"),
    "help_cpu_s": at_most("cli", 0.3, "fednode --help, CPU"),
    "idle_core_share": at_most("rounds", 0.01, "an idle node with 10 peers: share of a core"),
    "idle_resident_mb": at_most("rounds", 250, "an idle node with 10 peers: resident memory"),
    "tui_core_share": at_most("tui", 0.25, "the dashboard with 50 nodes and 3 runs: share of a core"),
    "tui_views_core_share": at_most("tui", 0.25, "the same, from view to view every 6 s"),
    "tui_idle_core_share": at_most("tui", 0.01, "the same while nothing happens"),
    "tui_start_s": at_most("tui", 1.5, "the dashboard's start, to its first picture"),
    "tui_start_cpu_s": at_most("tui", 1.5, "the same in CPU"),
    "tui_log_followed_core_share": at_most("tui_logs", 0.25, "the dashboard following 3,000 log lines a second"),
    "tui_log_filtered_core_share": at_most("tui_logs", 0.25, "the same through a filter"),
    "tui_log_still_core_share": at_most("tui_logs", 0.25, "the same while somebody reads further up"),
    "runs_10000_newest_ms": at_most("tui_runs", 250, "a page of the list of 10,000 runs, CPU of the node"),
    "runs_10000_by_accuracy_ms": at_most("tui_runs", 500, "the same in the order that costs most"),
    "tui_10000_runs_core_share": at_most("tui_runs", 0.25, "the dashboard over that list, scrolled, runs going on"),
}
MODULES = tuple(dict.fromkeys(target.module for target in TARGETS.values()))

_MEASURE = """
import importlib, json, sys
figures = importlib.import_module("bench_" + sys.argv[1]).figures()
print()
print(json.dumps(figures))
"""


def measure(module: str) -> dict[str, float] | str:
    """The module's figures, or why there are none."""
    if not (ROOT / "tests" / f"bench_{module}.py").exists():
        return "missing"
    began = time.monotonic()
    print(f"measuring {module} …", end=" ", flush=True)
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}\n{_MEASURE}",
                module,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=MODULE_DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        return f"not within {MODULE_DEADLINE_S:.0f} s"
    finally:
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    if done.returncode != 0:
        return f"failed with exit code {done.returncode}"
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(measured: dict[str, dict[str, float] | str]) -> str:
    """Every target with its figure, or why there is none; then what the modules measured besides."""
    lines = [f"{'figure':<42} {'measured':>12}  {'reach':<9}"]
    for name, target in TARGETS.items():
        figures = measured.get(target.module)
        if figures is None:
            continue
        if isinstance(figures, str):
            lines.append(f"{name:<42} {'-':>12}  {target!s:<9} {target.module}: {figures}")
        elif name not in figures:
            lines.append(f"{name:<42} {'-':>12}  {target!s:<9} not yet measured")
        else:
            verdict = "" if target.is_reached(figures[name]) else "MISSED"
            lines.append(f"{name:<42} {figures[name]:>12,.4g}  {target!s:<9} {verdict:<7}{target.what}")
    for module, figures in measured.items():
        if not isinstance(figures, str):
            others = {name: value for name, value in figures.items() if name not in TARGETS}
            lines += [f"{name:<42} {value:>12,.4g}  {'':9} ({module})" for name, value in others.items()]
    return "\n".join(lines)


def keep(measured: dict[str, dict[str, float] | str]) -> None:
    """Write build/bench.json: exactly the names of TARGETS."""
    try:
        before = json.loads(RESULTS.read_text())
    except (OSError, ValueError):
        before = {}
    results: dict[str, float | None] = {}
    for name, target in TARGETS.items():
        figures = measured.get(target.module, before)
        results[name] = None if isinstance(figures, str) else figures.get(name)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def main(modules: list[str]) -> int:
    unknown = sorted(set(modules) - set(MODULES))
    if unknown:
        print(f"no such module: {', '.join(unknown)}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    measured = {module: measure(module) for module in (modules or MODULES)}
    keep(measured)
    print(table(measured))
    print(f"written to {RESULTS.relative_to(ROOT)}")
    return 1 if any(isinstance(figures, str) for figures in measured.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
