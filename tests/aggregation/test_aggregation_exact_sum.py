"""Exact sums against Python's integers: the same bits in every order, grouping and tree."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation.tensors.exact_sum import (
    TERMS_MAX,
    WEIGHT_MAX,
    ZERO_EXPONENT,
    ExactSum,
    choose_exponent,
    exponent_of,
)
from aggregation.tensors.flat import SLAB_ELEMENTS
from protocol.errors import LocalProtocolError

FLOAT = st.floats(-(2.0**63), 2.0**63, width=32)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int]]:
    length = draw(st.integers(1, 6))
    count = draw(st.integers(1, 40))
    vectors = [np.array(draw(st.lists(FLOAT, min_size=length, max_size=length)), np.float32) for _ in range(count)]
    weights = draw(st.lists(st.integers(1, WEIGHT_MAX), min_size=count, max_size=count))
    return vectors, weights


def _exponent(vectors: list[np.ndarray], weights: list[int]) -> int:
    return choose_exponent(exponent_of(max(float(np.abs(vector).max()) for vector in vectors)), max(weights))


def _sum(vectors: list[np.ndarray], weights: list[int], exponent: int) -> ExactSum:
    total = ExactSum(len(vectors[0]), exponent)
    for vector, weight in zip(vectors, weights, strict=True):
        total.add(vector, weight)
    total.settle()
    return total


def _twin(vectors: list[np.ndarray], weights: list[int], exponent: int) -> list[int]:
    """The same in Python's integers: `round` of a Fraction rounds to nearest, ties to even."""
    unit = Fraction(2) ** -exponent
    return [
        sum(
            weight * round(Fraction(float(vector[place])) / unit)
            for vector, weight in zip(vectors, weights, strict=True)
        )
        for place in range(len(vectors[0]))
    ]


@settings(max_examples=150, deadline=None)
@given(rounds(), st.randoms(use_true_random=False))
def test_the_sum_is_that_of_integers_in_any_order(round_: tuple[list[np.ndarray], list[int]], random) -> None:
    vectors, weights = round_
    exponent = _exponent(vectors, weights)
    total = _sum(vectors, weights, exponent)
    assert total.totals.tolist() == _twin(vectors, weights, exponent)
    order = list(range(len(vectors)))
    random.shuffle(order)
    again = _sum([vectors[i] for i in order], [weights[i] for i in order], exponent)
    assert again.totals.tobytes() == total.totals.tobytes()
    assert (again.weight, again.terms) == (sum(weights), len(weights))


@settings(max_examples=60, deadline=None)
@given(rounds(), st.integers(0, 40))
def test_partial_sums_merge_and_what_was_added_can_be_taken_out(
    round_: tuple[list[np.ndarray], list[int]], cut: int
) -> None:
    vectors, weights = round_
    exponent = _exponent(vectors, weights)
    whole = _sum(vectors, weights, exponent)
    left, right = ExactSum(len(vectors[0]), exponent), ExactSum(len(vectors[0]), exponent)
    for index, (vector, weight) in enumerate(zip(vectors, weights, strict=True)):
        (left if index < cut else right).add(vector, weight)
    right.merge(left)
    right.settle()
    assert right.totals.tobytes() == whole.totals.tobytes()
    for vector, weight in list(zip(vectors, weights, strict=True))[:cut]:
        right.subtract(vector, weight)
    rest = _sum(vectors[cut:], weights[cut:], exponent) if cut < len(vectors) else ExactSum(len(vectors[0]), exponent)
    right.settle()
    assert right.totals.tobytes() == rest.totals.tobytes()
    assert (right.weight, right.terms) == (rest.weight, rest.terms)


def test_nothing_overflows_at_the_limits() -> None:
    greatest = float(np.nextafter(np.float32(2.0**64), np.float32(0)))
    values = np.array([greatest, -greatest, 2.0**-149], np.float32)
    exponent = choose_exponent(exponent_of(greatest), WEIGHT_MAX)
    total = ExactSum(3, exponent)
    for _ in range(TERMS_MAX):
        total.add(values, WEIGHT_MAX)
    total.settle()
    assert total.totals.tolist() == [TERMS_MAX * WEIGHT_MAX * q for q in _twin([values], [1], exponent)]
    mean = total.mean(total.weight, np.empty(3, np.float32))
    assert np.allclose(mean[:2], values[:2], rtol=2**-24, atol=0)


def test_the_mean_is_within_a_rounding_of_the_true_one() -> None:
    random = np.random.default_rng(5)
    vectors = [(random.standard_normal(1000) * 1e-3).astype(np.float32) for _ in range(50)]
    weights = [int(weight) for weight in random.integers(1, 2000, 50)]
    mean = _sum(vectors, weights, _exponent(vectors, weights)).mean(sum(weights), np.empty(1000, np.float32))
    true = sum(weight * vector.astype(np.float64) for vector, weight in zip(vectors, weights, strict=True)) / sum(
        weights
    )
    assert np.abs(mean - true).max() < 2.0**-24 * np.abs(true).max()


@pytest.mark.parametrize("length", [1, 255, 256, 257, SLAB_ELEMENTS - 1, SLAB_ELEMENTS, SLAB_ELEMENTS + 1, 150_000])
def test_any_length_sums_the_same(length: int) -> None:
    random = np.random.default_rng(length)
    vectors = [random.standard_normal(length).astype(np.float32) for _ in range(19)]
    weights = [int(weight) for weight in random.integers(1, 1000, 19)]
    exponent = _exponent(vectors, weights)
    expected = sum(
        weight * np.rint(vector.astype(np.float64) * 2.0**exponent).astype(np.int64)
        for vector, weight in zip(vectors, weights, strict=True)
    )
    assert (_sum(vectors, weights, exponent).totals == expected).all()


def test_each_element_can_have_its_own_exponent() -> None:
    values = np.array([1e-20, 1e10, 3.0, 0.0], np.float32)
    exponents = np.array([choose_exponent(exponent_of(float(v)), 7) for v in values], np.int16)
    total = ExactSum(4, exponents)
    total.add(values, 7)
    assert total.mean(7, np.empty(4, np.float32)).tolist() == values.tolist()


def test_a_sum_begins_anew_without_a_trace() -> None:
    total = ExactSum(300, 30)
    total.add(np.full(300, 0.5, np.float32), 3)
    total.settle()
    total.add(np.full(300, 0.25, np.float32), 3)
    total.restart(10, 20)
    total.add(np.full(10, 0.5, np.float32), 5)
    total.settle()
    assert total.totals.tolist() == [5 * 2**19] * 10
    assert (total.weight, total.terms) == (5, 1)


def test_a_vector_without_elements_sums_to_nothing() -> None:
    total = ExactSum(0, 0)
    total.add(np.empty(0, np.float32), 1)
    assert len(total.mean(1, np.empty(0, np.float32))) == 0


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_MAX + 1, 2**63])
def test_weights_beyond_the_limit_are_refused(weight: int) -> None:
    with pytest.raises(LocalProtocolError, match="is not in 1 to 524288"):
        ExactSum(1, 0).add(np.ones(1, np.float32), weight)
    with pytest.raises(LocalProtocolError, match="is not in 1 to 524288"):
        choose_exponent(0, weight)


def test_more_terms_than_the_limit_are_refused() -> None:
    total, other = ExactSum(1, 0), ExactSum(1, 0)
    for _ in range(TERMS_MAX):
        total.add(np.ones(1, np.float32), 1)
    other.add(np.ones(1, np.float32), 1)
    with pytest.raises(LocalProtocolError, match="More than 4096"):
        total.add(np.ones(1, np.float32), 1)
    with pytest.raises(LocalProtocolError, match="More than 4096"):
        total.merge(other)


def test_sums_of_different_exponents_are_not_merged() -> None:
    for other in (ExactSum(2, 1), ExactSum(3, 0)):
        with pytest.raises(LocalProtocolError, match="cannot be merged"):
            ExactSum(2, 0).merge(other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**60])
def test_values_beyond_the_bound_never_pass_silently(bad: float) -> None:
    total = ExactSum(2, 0)
    total.add(np.array([1.0, bad], np.float32), 1)
    with pytest.raises(LocalProtocolError, match="beyond the bound"):
        total.settle()


def test_exponents() -> None:
    assert [exponent_of(value) for value in (0.0, 1.0, 0.99, 2.0**-149, 1.5)] == [ZERO_EXPONENT, 1, 0, -148, 1]
    assert choose_exponent(0, 1) == 48
    assert choose_exponent(0, 1000) == 39
    assert choose_exponent(10, WEIGHT_MAX) == 19
    assert choose_exponent(ZERO_EXPONENT, 1) == 120  # 2^F stays a float32


@settings(max_examples=60)
@given(rounds(), st.integers(0, 40), st.booleans())
def test_a_mean_has_the_bits_of_the_settled_sum_s(
    drawn: tuple[list[np.ndarray], list[int]], at: int, merged: bool
) -> None:
    """Whether vectors still wait to be multiplied, were settled or came in another sum; no zero has a sign."""
    vectors, weights = drawn
    exponent, divisor, at = _exponent(vectors, weights), sum(weights), min(at, len(vectors))
    settled = _sum(vectors, weights, exponent)
    expected = (settled.totals.astype(np.float64) / divisor * 2.0**-exponent).astype(np.float32)
    total, other = ExactSum(len(vectors[0]), exponent), ExactSum(len(vectors[0]), exponent)
    for index, (vector, weight) in enumerate(zip(vectors, weights, strict=True)):
        (other if merged and index >= at else total).add(vector, weight)
    if merged:
        total.merge(other)
    for _ in range(2):  # it takes nothing out
        assert total.mean(divisor, np.empty(len(vectors[0]), np.float32)).tobytes() == expected.tobytes()
    total.settle()
    assert total.totals.tobytes() == settled.totals.tobytes()


def test_a_mean_of_few_negative_zeros_is_zero() -> None:
    total = ExactSum(3, 20)
    total.add(np.full(3, -0.0, np.float32), 3)
    assert total.mean(3, np.empty(3, np.float32)).tobytes() == bytes(12)
