"""What a run costs as it grows: `make scaling`. Messages, bytes, CPU and memory for 10 to 1,000 simulated nodes.

    python tests/scaling.py [NODES ...]     writes the table in docs/scaling.md and the plot docs/scaling.svg

Each size is played in a process of its own: a group that is placed, not joined, and a run of ROUNDS rounds in which
training does nothing (simulations.training.idle_trainer). Everything else is the nodes' own code. Checks of the very
same bytes are remembered across the nodes of a simulation, so CPU seconds are the simulator's, not those of as many
machines; messages and bytes are what real nodes would send.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZES = (10, 30, 100, 300, 1000)
ROUNDS = 10
SEED = 0
DEADLINE_S = 1800.0  # of one size; the largest takes about a minute of CPU
PAGE, PLOT = ROOT / "docs" / "scaling.md", ROOT / "docs" / "scaling.svg"
BEGIN, END = "<!-- measured by make scaling -->", "<!-- end of what make scaling measured -->"

_CONFIGURATION = """
name = "idle"
seed = {seed}
[task]
name = "digits"
[data]
name = "idle"
[training]
rounds = {rounds}
[roster]
nodes_min = {nodes}
nodes_max = 4096
"""

Figures = dict[str, Any]


def measure(nodes: int, rounds: int = ROUNDS) -> Figures:
    """The figures of one size, from a process of its own. Raises RuntimeError when the run did not finish."""
    with tempfile.TemporaryDirectory(prefix="fednode-scaling-") as folder:
        command = [sys.executable, __file__, "--play", str(nodes), str(rounds), folder]
        child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    if child.returncode != 0:
        raise RuntimeError(f"{nodes} simulated nodes ended with {child.returncode}")
    figures: Figures = json.loads(child.stdout.splitlines()[-1])
    if (figures["outcome"], figures["rounds"]) != ("FINISHED", rounds):
        raise RuntimeError(f"the run of {nodes} simulated nodes did not finish: {figures}")
    return figures


# --- one simulation, in the child ----------------------------------------------------------------------------------
def play(nodes: int, rounds: int, folder: Path) -> None:
    """Print the figures, and end the process there and then: to end a hundred thousand tasks one by one tells nothing
    and takes seconds."""
    from simulations.world.deterministic import run_deterministically

    figures: Figures = {"nodes": nodes}

    run_deterministically(SEED, lambda: _play(nodes, rounds, folder, figures))


async def _play(count: int, rounds: int, folder: Path, figures: Figures) -> None:
    import trio

    from simulations.nodes.simulated_node import ChunkPool, SimulatedNode
    from simulations.training.idle_trainer import IdleTrainer
    from simulations.world.network import SimulatedWorld
    from simulations.world.record import SharedStore
    from simulations.world.trace import Trace

    sent, trace = _Sent(), Trace()
    world, store, pool = SimulatedWorld(Random(f"network of {SEED}")), SharedStore(None), ChunkPool()
    world.on_event(sent)
    world.on_event(trace.network)
    nodes = [
        SimulatedNode(number, SEED, world, store, folder, lambda number, folder: IdleTrainer(), pool=pool)
        for number in range(count)
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        await _gather(world, nodes, nursery, folder)
        figures["start_cpu_s"] = round(time.process_time(), 2)
        await _train(nodes, rounds, sent, figures)
        store.close()
        figures["trace"] = trace.hexdigest()
        figures["cpu_s"] = round(time.process_time(), 2)
        figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(figures), flush=True)
        os._exit(0)


async def _gather(world: Any, nodes: Sequence[Any], nursery: Any, folder: Path) -> None:
    from node.home.identity import Keys
    from simulations.nodes.seeded_group import Placed, place_group
    from simulations.nodes.simulated_node import EPOCH_S
    from simulations.world.deterministic import until

    placed = [
        Placed(Keys(n.keys.key, n.keys.member_key, n.keys.seal_key.private_bytes_raw()), n.name, n.disk) for n in nodes
    ]
    await place_group(world, placed, "scaling", now_s=int(EPOCH_S), random=Random(f"group of {SEED}"))
    data = folder / "idle.csv"
    data.write_text("x\n1\n")
    for node in nodes:
        real = await nursery.start(node.live)
        await real.service.data_views.register("idle", str(data), {})
        await real.service.set_policy(["all"])
    await until(lambda: all(node.node.groups.neighbours.wanted() <= node.node.groups.connected for node in nodes))


async def _train(nodes: Sequence[Any], rounds: int, sent: "_Sent", figures: Figures) -> None:
    from simulations.world.deterministic import until

    founder = nodes[0].node
    configuration = _CONFIGURATION.format(seed=SEED, rounds=rounds, nodes=len(nodes))
    run_id = (await founder.service.start_run(configuration, None, None, {}))["run_id"]

    def driver_of(node: Any) -> Any:
        known = node.node.runs.known.get(run_id)
        return known and known.driver

    # Rounds are measured between the first commits of the starting model and of the last round.
    await until(lambda: (d := driver_of(nodes[0])) is not None and d.machine.ledger.committed_round >= 0)
    began, at = time.process_time(), sent.now()
    await until(lambda: all((d := driver_of(node)) is not None and d.ended.is_set() for node in nodes))
    messages, size = (after - before for after, before in zip(sent.now(), at, strict=True))
    share = len(nodes) * rounds
    figures["messages"] = round(messages / share, 1)
    figures["kilobytes"] = round(size / share / 1000, 1)
    figures["round_cpu_ms"] = round(1000 * (time.process_time() - began) / share, 2)
    await founder.record.flush()
    seen = await founder.service.run(run_id)
    figures.update(outcome=seen["state"], rounds=seen["round"])


class _Sent:
    """Counts frames and gossip deliveries, and their bytes."""

    def __init__(self) -> None:
        self._messages = 0
        self._bytes = 0

    def __call__(self, event: Any) -> None:
        if event.kind in ("frame", "gossip"):
            self._messages += 1
            self._bytes += event.size

    def now(self) -> tuple[int, int]:
        return self._messages, self._bytes


# --- what people see -----------------------------------------------------------------------------------------------
COLUMNS: tuple[tuple[str, str, Callable[[Figures], float]], ...] = (
    ("messages, node and round", "messages", lambda f: f["messages"]),
    ("kB, node and round", "kB", lambda f: f["kilobytes"]),
    ("CPU ms, node and round", "CPU ms", lambda f: f["round_cpu_ms"]),
    ("CPU ms to start, node", "start, CPU ms", lambda f: 1000 * f["start_cpu_s"] / f["nodes"]),
    ("peak memory MB, node", "MB", lambda f: f["peak_mb"] / f["nodes"]),
)


def table(measured: Sequence[Figures]) -> str:
    head = ["nodes", *(title for title, _, _ in COLUMNS), "CPU s in all"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---:" for _ in head) + " |"]
    for figures in measured:
        cells = [f"{figures['nodes']:,}", *(f"{of(figures):,.1f}" for _, _, of in COLUMNS), f"{figures['cpu_s']:,.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(measured: Sequence[Figures]) -> str:
    """Every column over the number of nodes, as SVG: both axes logarithmic, each curve as multiples of its first."""
    from math import log10

    width, height, left, bottom, right = 720, 400, 60, 40, 170
    curves = [(name, [(f["nodes"], of(f) / of(measured[0])) for f in measured]) for _, name, of in COLUMNS]
    top = max(1.0, max(log10(y) for _, curve in curves for _, y in curve))
    low = min(0.0, min(log10(y) for _, curve in curves for _, y in curve))
    first, last = log10(measured[0]["nodes"]), log10(measured[-1]["nodes"])

    def place(x: float, y: float) -> str:
        across = left + (log10(x) - first) / max(last - first, 1e-9) * (width - left - right)
        return f"{across:.1f},{height - bottom - (log10(y) - low) / (top - low) * (height - bottom - 20):.1f}"

    colours = ("#1b6ca8", "#c1440e", "#2e7d32", "#7b1fa2", "#555555")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="14">per node, as multiples of what it is with {measured[0]["nodes"]} nodes</text>',
    ]
    for figures in measured:
        x, y = place(figures["nodes"], 10**low).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 18:.1f}" text-anchor="middle">{figures["nodes"]:,}</text>')
    for exponent in range(int(low) - 1, int(top) + 1):
        if low <= exponent <= top:
            x, y = place(measured[0]["nodes"], 10.0**exponent).split(",")
            parts.append(f'<line x1="{x}" y1="{y}" x2="{width - right}" y2="{y}" stroke="#dddddd"/>')
            parts.append(f'<text x="{left - 8}" y="{y}" text-anchor="end">× {10.0**exponent:g}</text>')
    for number, (name, curve) in enumerate(curves):
        points = " ".join(place(x, y) for x, y in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[number]}" stroke-width="2"/>')
        parts.append(f'<text x="{width - right + 12}" y="{40 + 18 * number}" fill="{colours[number]}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(sizes: Sequence[int]) -> None:
    measured = []
    for nodes in sizes:
        measured.append(measure(nodes))
        print(json.dumps(measured[-1]), flush=True)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(measured)}\n\n{END}{after}")
    PLOT.write_text(plot(measured))
    print(table(measured))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        play(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main([int(argument) for argument in sys.argv[1:]] or SIZES)
