"""What training many simulated nodes together gains: CPU time of one round of a hundred, all by way of their trainers.

Nodes with 50 of scikit-learn's handwritten digits each and a multi-layer perceptron 64-32-10, trained locally for 5
epochs with batches of 10 as in the paper on federated averaging (arXiv:1602.05629). The first rounds are left out on
both sides: they load what torch needs and, together, record the step that later ones play.
"""

import gc
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import trio
import trio.testing
from sklearn.datasets import load_digits

from node.data.shares import digits_split
from node.seams import TaskSpec
from simulations.training.batched import BatchedTraining
from simulations.training.trainer import InProcessSession, InProcessTrainer

NODES = 100
IMAGES = 50  # of each node; some nodes have some of them in common
WARM_UP_ROUNDS = 2
ROUNDS = 12
TRAINING = {"epochs": 5, "batch_size": 10, "learning_rate": 0.1}
SIMULATED = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}


def figures() -> dict[str, float]:
    """sim_batch_speedup: one after another, over together, the median of the ratios of several rounds.

    Beside it the same for twice as many nodes and for a smaller model; for unequal shares of some 14 images, where
    stacks are filled worse; and for the digits' default model of 50,000 parameters: with the equal shares, and with
    what `fednode simulate` trains. There the arithmetic itself is most of the time, and it is the same both ways."""
    speedup, together_s = _speedup(_equal_shares, [32], TRAINING)
    return {
        "sim_batch_speedup": speedup,
        "sim_batch_ms_per_node": 1000 * together_s / NODES,
        "sim_batch_speedup_200_nodes": _speedup(_equal_shares, [32], TRAINING, 2 * NODES)[0],
        "sim_batch_speedup_1k_parameters": _speedup(_equal_shares, [16], TRAINING)[0],
        "sim_batch_speedup_uneven": _speedup(_uneven_shares, [32], TRAINING)[0],
        "sim_batch_speedup_50k_parameters": _speedup(_equal_shares, [256, 128], TRAINING)[0],
        "sim_batch_speedup_50k_parameters_uneven": _speedup(_uneven_shares, [256, 128], SIMULATED)[0],
    }


def _equal_shares(folder: Path, nodes: int) -> list[Path]:
    digits, draw = load_digits(), np.random.default_rng(0)
    folder.mkdir()
    paths = [folder / f"{number}.npz" for number in range(nodes)]
    for path in paths:
        rows = draw.permutation(len(digits.target))[:IMAGES]
        np.savez(path, x=digits.data[rows], y=digits.target[rows])
    return paths


def _uneven_shares(folder: Path, nodes: int) -> list[Path]:
    return digits_split(nodes, seed=0).write(folder)


def _speedup(
    shares: Callable[[Path, int], list[Path]], hidden: list[int], training: dict[str, float], nodes: int = NODES
) -> tuple[float, float]:
    """How many times the CPU seconds of a round together a round alone takes, and the former."""
    with tempfile.TemporaryDirectory(prefix="fednode-bench-") as name:
        folder = Path(name)
        specs = [
            TaskSpec("run", f"node-{at}", "digits", {"hidden": hidden}, training, "bf16", str(path), {}, 0)
            for at, path in enumerate(shares(folder / "data", nodes))
        ]
        measured = trio.run(partial(_measure, specs, folder), clock=trio.testing.MockClock(autojump_threshold=0))
    return median(alone / together for alone, together in measured), median(together for _, together in measured)


async def _measure(specs: list[TaskSpec], folder: Path) -> list[tuple[float, float]]:
    """CPU seconds of each round, alone and together: both take turns, so that a machine that slows down slows both."""
    ways = [await _open(specs, folder / "alone", None), await _open(specs, folder / "together", BatchedTraining())]
    first = await ways[0][0].initial_model()
    measured = []
    for round_number in range(1, WARM_UP_ROUNDS + ROUNDS + 1):
        times = []
        for sessions in ways:
            gc.collect()
            gc.disable()  # a full collection takes as long as a round, and falls where it will
            began = time.process_time()
            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(session.train, round_number, first.schema, first.model)
            times.append(time.process_time() - began)
            gc.enable()
        measured.append((times[0], times[1]))
    return measured[WARM_UP_ROUNDS:]


async def _open(specs: list[TaskSpec], folder: Path, together: BatchedTraining | None) -> list[InProcessSession]:
    sessions = []
    for at, spec in enumerate(specs):
        (folder / str(at)).mkdir(parents=True)
        trainer = InProcessTrainer(folder / str(at), together=together)
        sessions.append(await trainer.open(spec, lambda output: None))
    return sessions


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
