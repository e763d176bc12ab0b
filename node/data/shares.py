"""Real data dealt out to several nodes, for demos, simulations and benchmarks: unevenly, as it is in life.

The classes are dealt by Dirichlet draws (arXiv:1909.06335): the smaller `alpha`, the more each node has a few classes
of its own; at 0.5 most nodes hardly know half of the digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES_PER_NODE_MIN = 10  # fewer leave nothing to hold out; the largest shares give some away
HELD_OUT_SHARE = 0.2  # of all, trained on by nobody: what models are compared by

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class DigitsSplit:
    """x (n, 64) and y (n,) for each node, and of the rows that nobody trains on."""

    shares: Sequence[tuple[Array, Array]]
    held_out: tuple[Array, Array]

    def write(self, directory: Path) -> list[Path]:
        """Write node-0.npz, node-1.npz … and held-out.npz. Returns the nodes' files."""
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / f"node-{number}.npz" for number in range(len(self.shares))]
        for path, (x, y) in zip([*paths, directory / "held-out.npz"], [*self.shares, self.held_out], strict=True):
            np.savez(path, x=x, y=y)
        return paths


def digits_split(nodes: int, alpha: float = 0.5, seed: int = 0) -> DigitsSplit:
    """scikit-learn's 1,797 handwritten digits, dealt out to `nodes`. The same for the same arguments."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.data.astype(np.float32), digits.target.astype(np.int64)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(y))
    held_out, rest = np.split(order, [round(len(y) * HELD_OUT_SHARE)])
    shares = dirichlet_shares(y[rest], nodes, alpha, seed)
    return DigitsSplit([(x[rest[rows]], y[rest[rows]]) for rows in shares], (x[held_out], y[held_out]))


def dirichlet_shares(labels: Array, nodes: int, alpha: float, seed: int) -> list[Array]:
    """Row numbers for each node; every row goes to exactly one. `labels` is (n,) with n ≥ `nodes`.

    Every node gets SAMPLES_PER_NODE_MIN rows, or as many as there are for all.
    """
    if not 0 < nodes <= len(labels) or alpha <= 0:
        raise ValueError(f"{len(labels)} rows cannot be dealt to {nodes} nodes with alpha {alpha}")
    draw = np.random.Generator(np.random.PCG64(seed))
    shares: list[list[int]] = [[] for _ in range(nodes)]
    for label in np.unique(labels):
        rows = draw.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(draw.dirichlet([alpha] * nodes))[:-1] * len(rows)).astype(int)
        for share, part in zip(shares, np.split(rows, cuts), strict=True):
            share.extend(part.tolist())
    _level(shares, min(SAMPLES_PER_NODE_MIN, len(labels) // nodes))
    return [np.sort(np.array(share, dtype=np.int64)) for share in shares]


def _level(shares: list[list[int]], least: int) -> None:
    """Have the largest shares give to those below `least`."""
    for share in shares:
        while len(share) < least:
            share.append(max(shares, key=len).pop())
