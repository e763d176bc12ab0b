"""FedNova against its paper's formula in exact fractions, and what lies about steps can gain."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregation.combine import combine
from aggregation.rules.fednova import STEPS_FACTOR_MAX, FedNova
from aggregation.rules.rule import Candidate
from aggregation.settings import CombineSettings
from aggregation.tensors.exact_sum import WEIGHT_MAX
from aggregation.tensors.schema import Schema
from aggregation.updates import Checked, update_of
from protocol.errors import FednodeError

SCHEMA = Schema.of_arrays({"w": np.zeros(3, np.float32)})
FEDNOVA = CombineSettings(method="fednova")

Node = tuple[int, int, list[float]]  # samples, steps, difference
NODES = st.lists(
    st.tuples(
        st.integers(1, 100_000),
        st.integers(20, 300),  # within the factor that is believed
        st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3),
    ),
    min_size=1,
    max_size=9,
)


def combined(nodes: list[Node], run: CombineSettings = FEDNOVA) -> np.ndarray:
    updates = [
        update_of(f"{index:02}", np.array(values, "<f4").tobytes(), samples, steps=steps)
        for index, (samples, steps, values) in enumerate(nodes)
    ]
    return np.frombuffer(combine(bytes(12), SCHEMA, updates, run).model, "<f4")


@given(NODES)
def test_the_mean_is_normalised_as_in_the_paper(nodes: list[Node]) -> None:
    """arXiv:2007.07481, with plain SGD's a = τ: Σ pᵢ τᵢ · Σ pᵢ Δᵢ / τᵢ."""
    samples, steps, values = zip(*nodes, strict=True)
    shares = [min(n, WEIGHT_MAX) / sum(samples) for n in samples]
    effective = sum(p * t for p, t in zip(shares, steps, strict=True))
    each = [p / t * np.array(v) for p, t, v in zip(shares, steps, values, strict=True)]
    # Each weight is rounded to 2^-19 of the greatest.
    off = 2e-6 * effective * max(p / t for p, t in zip(shares, steps, strict=True)) * len(nodes) * 8
    assert combined(nodes) == pytest.approx(effective * sum(each), abs=off + 1e-6)


@given(NODES)
def test_equal_steps_are_the_plain_mean(nodes: list[Node]) -> None:
    same = [(samples, 40, values) for samples, _, values in nodes]
    assert combined(same) == pytest.approx(combined(same, CombineSettings()), abs=1e-3)


def test_what_a_node_with_much_data_learned_does_not_drown_the_others() -> None:
    """Two nodes pull at one weight, each by as much a step; the one that made nine times the steps wins the plain
    mean."""
    nodes = [(100, 90, [9.0, 0, 0]), (100, 10, [-1.0, 0, 0])]
    assert combined(nodes, CombineSettings())[0] == pytest.approx(4.0)
    assert combined(nodes)[0] == pytest.approx(0.0, abs=1e-3)


def shares_of(claims: list[tuple[int, int]]) -> list[Fraction]:
    """What of each difference enters, given samples and steps as claimed."""
    found = Checked((0,), None)
    shares = FedNova("samples", {}).shares([Candidate("", n, found, steps) for n, steps in claims], None)
    assert shares.total is not None
    return [share / shares.total for share in shares.shares]


@given(st.lists(st.tuples(st.integers(1, WEIGHT_MAX), st.integers(0, 2**53)), min_size=1, max_size=40))
def test_whatever_is_claimed_the_result_is_bounded(claims: list[tuple[int, int]]) -> None:
    assert 1 <= sum(shares_of(claims)) < 65


@given(lie=st.integers(0, 2**53), honest=st.integers(1, 1000))
def test_a_lie_about_steps_counts_no_more_than_the_factor(lie: int, honest: int) -> None:
    shares = shares_of([(100, honest), (100, honest), (100, lie)])
    assert shares[2] <= STEPS_FACTOR_MAX * shares[0]
    # By as many steps as the nodes made on average: two honest ones, and the most that is believed of the third.
    assert shares[0] <= Fraction(2 + STEPS_FACTOR_MAX, 9)


def test_other_rules_do_not_average() -> None:
    with pytest.raises(FednodeError, match="goes with no rule 'median'"):
        CombineSettings(rule="median", method="fednova")
    with pytest.raises(FednodeError, match="no method 'fedavvg'"):
        CombineSettings(method="fedavvg")
