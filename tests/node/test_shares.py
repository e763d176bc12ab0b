"""The dealing out of real data to several nodes."""

import numpy as np
import pytest
import torch

from fednode import Source
from node.data.shares import SAMPLES_PER_NODE_MIN, digits_split, dirichlet_shares
from node.tasks.digits import Digits


@pytest.mark.parametrize(("nodes", "alpha"), [(1, 0.5), (4, 0.5), (10, 0.1), (100, 0.5), (300, 0.05)])
def test_shares_deal_every_row_once_and_leave_nobody_empty(nodes, alpha):
    labels = np.arange(600) % 10
    shares = dirichlet_shares(labels, nodes, alpha, seed=3)
    assert sorted(np.concatenate(shares).tolist()) == list(range(600))
    assert min(map(len, shares)) >= min(SAMPLES_PER_NODE_MIN, 600 // nodes)
    again = dirichlet_shares(labels, nodes, alpha, seed=3)
    assert all((a == b).all() for a, b in zip(shares, again, strict=True))
    if nodes > 1:
        assert any(
            (len(a) != len(b)) or (a != b).any()
            for a, b in zip(shares, dirichlet_shares(labels, nodes, alpha, 4), strict=True)
        )


def test_a_small_alpha_makes_classes_uneven():
    labels = np.arange(2000) % 10

    def largest_class(alpha: float) -> float:
        shares = dirichlet_shares(labels, 5, alpha, seed=0)
        return float(np.mean([np.bincount(labels[rows]).max() / len(rows) for rows in shares]))

    assert largest_class(100.0) < 0.15 < 0.25 < largest_class(0.1)


@pytest.mark.parametrize(("nodes", "alpha"), [(0, 0.5), (11, 0.5), (2, 0.0)])
def test_shares_that_cannot_be_are_refused(nodes, alpha):
    with pytest.raises(ValueError, match="cannot be dealt"):
        dirichlet_shares(np.zeros(10), nodes, alpha, 0)


def test_digits_are_split_without_overlap_and_written(tmp_path):
    split = digits_split(3, seed=1)
    paths = split.write(tmp_path / "deep" / "er")
    rows = [bytes(row) for x, _ in [*split.shares, split.held_out] for row in x]
    assert len(rows) == 1797
    assert len(split.held_out[0]) == 359
    assert [path.name for path in paths] == ["node-0.npz", "node-1.npz", "node-2.npz"]
    for path, (x, y) in zip(paths, split.shares, strict=True):
        data = Digits({"evaluation_share": 0}).data(Source(path))
        assert torch.equal(data.train[0] * 16, torch.from_numpy(x))
        assert data.train[1].tolist() == y.tolist()
