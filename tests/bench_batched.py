"""What training many simulated nodes together gains: CPU time of one round of a hundred, all by way of their trainers.

Nodes with 50 of scikit-learn's handwritten digits each and a multi-layer perceptron 64-32-10, trained locally for 5
epochs with batches of 10 as in the paper on federated averaging (arXiv:1602.05629). The first round is left out on both
sides: it loads what torch needs.
"""

import gc
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import trio
import trio.testing
from sklearn.datasets import load_digits

from node.seams import TaskSpec
from node.shares import digits_split
from simulations.batched import BatchedTraining
from simulations.trainer import InProcessSession, InProcessTrainer

NODES = 100
IMAGES = 50  # of each node; some nodes have some of them in common
ROUNDS = 8
TRAINING = {"epochs": 5, "batch_size": 10, "learning_rate": 0.1}
SIMULATED = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}


def figures() -> dict[str, float]:
    """sim_batch_speedup: one after another, over together, both the least of several rounds.

    Beside it the same for unequal shares of some 14 images, where stacks are filled worse, and for those with the
    model that `fednode simulate` trains, where the arithmetic itself is most of the time."""
    alone, together = _speedup(_equal_shares, [32], TRAINING)
    uneven = _speedup(_uneven_shares, [32], TRAINING)
    large = _speedup(_uneven_shares, [256, 128], SIMULATED)
    return {
        "sim_batch_speedup": alone / together,
        "sim_batch_ms_per_node": 1000 * together / NODES,
        "sim_batch_speedup_uneven": uneven[0] / uneven[1],
        "sim_batch_speedup_50k_parameters": large[0] / large[1],
    }


def _equal_shares(folder: Path) -> list[Path]:
    digits, draw = load_digits(), np.random.default_rng(0)
    folder.mkdir()
    paths = [folder / f"{number}.npz" for number in range(NODES)]
    for path in paths:
        rows = draw.permutation(len(digits.target))[:IMAGES]
        np.savez(path, x=digits.data[rows], y=digits.target[rows])
    return paths


def _uneven_shares(folder: Path) -> list[Path]:
    return digits_split(NODES, seed=0).write(folder)


def _speedup(
    shares: Callable[[Path], list[Path]], hidden: list[int], training: dict[str, float]
) -> tuple[float, float]:
    """CPU seconds of a round alone and together."""
    with tempfile.TemporaryDirectory(prefix="fednode-bench-") as name:
        folder = Path(name)
        specs = [
            TaskSpec("run", f"node-{at}", "digits", {"hidden": hidden}, training, "bf16", str(path), {}, 0)
            for at, path in enumerate(shares(folder / "data"))
        ]
        return trio.run(partial(_measure, specs, folder), clock=trio.testing.MockClock(autojump_threshold=0))


async def _measure(specs: list[TaskSpec], folder: Path) -> tuple[float, float]:
    """Both ways take turns, so that a machine that slows down slows both."""
    ways = [await _open(specs, folder / "alone", None), await _open(specs, folder / "together", BatchedTraining())]
    first = await ways[0][0].initial_model()
    taken: tuple[list[float], list[float]] = ([], [])
    for round_number in range(1, ROUNDS + 1):
        for sessions, times in zip(ways, taken, strict=True):
            gc.collect()
            gc.disable()  # a full collection takes as long as a round, and falls where it will
            began = time.process_time()
            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(session.train, round_number, first.schema, first.model)
            times.append(time.process_time() - began)
            gc.enable()
    return min(taken[0][1:]), min(taken[1][1:])


async def _open(specs: list[TaskSpec], folder: Path, together: BatchedTraining | None) -> list[InProcessSession]:
    sessions = []
    for at, spec in enumerate(specs):
        (folder / str(at)).mkdir(parents=True)
        trainer = InProcessTrainer(folder / str(at), together=together)
        sessions.append(await trainer.open(spec, lambda output: None))
    return sessions


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
