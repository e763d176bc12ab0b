"""Inner products of differences: those of the defined whole numbers, whatever the slabs, threads and machine."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_examples import ArraySpool, norm_squared_of

from aggregation.rules import gram as gram_module
from aggregation.rules.gram import Gram, gram_of
from aggregation.tensors.norms import NORM_BLOCK, NORM_UNIT_BITS

FINITE = st.floats(-(2.0**63), 2.0**63, width=32, allow_subnormal=False)


def _multiples(values: np.ndarray) -> list[Fraction]:
    """A row as what its products are made of: per block multiples of a power of two, of 18 bits."""
    rounded: list[Fraction] = []
    for start in range(0, len(values), NORM_BLOCK):
        block = [Fraction(float(value)) for value in values[start : start + NORM_BLOCK]]
        greatest = max(map(abs, block))
        exponent = int(np.frexp(float(greatest))[1]) if greatest else -(10**6)
        unit = Fraction(2) ** (18 - exponent) if exponent >= -100 else Fraction(0)
        rounded += [round(value * unit) / unit if unit else Fraction(0) for value in block]
    return rounded


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_every_product_is_that_of_the_whole_numbers(data: st.DataObject, count: int, length: int) -> None:
    scale = data.draw(st.sampled_from([1.0, 2.0**-80, 2.0**-140]))
    row = st.lists(FINITE.map(lambda value: value * scale), min_size=length, max_size=length)
    values = np.array(data.draw(st.lists(row, min_size=count, max_size=count)), np.float32)
    gram = gram_of(count, ArraySpool(values))
    rows = [_multiples(row) for row in values]
    for one in range(count):
        for other in range(count):
            expected = sum(a * b for a, b in zip(rows[one], rows[other], strict=True))
            assert gram.products[one][other] * gram.unit == expected


def _long(count: int = 7, length: int = 2 * NORM_BLOCK + 777) -> np.ndarray:
    random = np.random.default_rng(5)
    values = random.standard_normal((count, length)) * 10.0 ** random.integers(-3, 3, (count, 1))
    values[:, NORM_BLOCK:] *= 1e-4  # blocks of other scales
    return values.astype(np.float32)


def test_a_products_diagonal_are_the_norms() -> None:
    values = _long()
    gram = gram_of(len(values), ArraySpool(values))
    assert gram.unit == Fraction(1, 4**NORM_UNIT_BITS)
    assert [row[index] for index, row in enumerate(gram.products)] == [norm_squared_of(row) for row in values]
    assert gram.products == [list(row) for row in zip(*gram.products, strict=True)]


@pytest.mark.parametrize(("room", "group", "steps"), [(8 * 7 * 4096, 50, 7000), (99, 3, 600), (2**26, 2, 10**6)])
def test_room_groups_and_strips_change_no_bit(
    room: int, group: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = _long()
    expected = gram_of(len(values), ArraySpool(values))
    monkeypatch.setattr(gram_module, "ROOM_BYTES", room)
    monkeypatch.setattr(gram_module, "_GROUP_ROWS", group)
    monkeypatch.setattr(gram_module, "_PRODUCT_STEPS", steps)
    assert gram_of(len(values), ArraySpool(values)) == expected


def test_the_order_of_rows_moves_products_and_no_more() -> None:
    values, order = _long(), [3, 0, 6, 2, 5, 1, 4]
    plain, moved = gram_of(7, ArraySpool(values)), gram_of(7, ArraySpool(values[order]))
    assert moved.products == [[plain.products[one][other] for other in order] for one in order]


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "layers of other scales", "one huge value"])
def test_distances_are_those_of_the_differences(kind: str) -> None:
    random = np.random.default_rng(3)
    values = random.standard_normal((6, 150_000))
    if kind == "heavy-tailed":
        values = random.standard_t(2, values.shape)
    elif kind == "layers of other scales":
        values[:, 40_000:] *= 1e-4
    elif kind == "one huge value":
        values[2, 7] = 1e6
    values = values.astype(np.float32)
    gram = gram_of(6, ArraySpool(values))
    wide = values.astype(np.float64)
    for one, row in enumerate(gram.squared_distances()):
        for other, square in enumerate(row):
            naive = float(((wide[one] - wide[other]) ** 2).sum())
            # Roundings are those of the norms: below a thousandth of either, and far below it where values are alike.
            allowed = 2e-3 * np.linalg.norm(wide[[one, other]]) if kind == "one huge value" else 1e-5 * naive**0.5
            assert float(square * gram.unit) ** 0.5 == pytest.approx(naive**0.5, rel=1e-9, abs=allowed)


def test_nothing_hides_below_one_large_value() -> None:
    """In 8 bits for a whole row such a one would seem as long as its single largest value."""
    values = np.zeros((2, NORM_BLOCK), np.float32)
    values[1] = 0.4 / 127
    values[:, 0] = 1.0
    gram = gram_of(2, ArraySpool(values))
    naive = float(((values[1] - values[0]).astype(np.float64) ** 2).sum())
    assert float(gram.squared_distances()[0][1] * gram.unit) == pytest.approx(naive, rel=1e-2)


def test_values_too_small_for_a_norm_count_as_zeros() -> None:
    values = np.full((2, 3), 2.0**-102, np.float32)
    values[1] = 0.0
    assert gram_of(2, ArraySpool(values)).squared_distances() == [[0, 0], [0, 0]]


# --- what is made of it ---------------------------------------------------------------------------------------------

NUMBERS = st.integers(-(2**200), 2**200)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_scaling_and_mixing_are_those_of_the_vectors(data: st.DataObject, count: int) -> None:
    vectors = data.draw(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=count, max_size=count))
    gram = _products(vectors)
    factors = data.draw(st.lists(st.fractions(0, 1, max_denominator=2**30), min_size=count, max_size=count))
    taken = data.draw(st.integers(1, count))
    mixes = [data.draw(st.permutations(range(count)))[:taken] for _ in range(count)]
    scaled = [[value * factor for value in vector] for vector, factor in zip(vectors, factors, strict=True)]
    mixed = [[sum(scaled[index][place] for index in mix) / taken for place in range(3)] for mix in mixes]
    made = gram.scaled(factors).mixed(mixes)
    expected = _products(mixed)
    assert [[p * made.unit for p in row] for row in made.products] == [
        [p * expected.unit for p in row] for row in expected.products
    ]
    assert all(square >= 0 for row in made.squared_distances() for square in row)


def _products(vectors: list) -> Gram:
    products = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in vectors] for one in vectors]
    return Gram(products, Fraction(1, 4))


def test_memory_does_not_grow_with_the_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows than there is room for, less of each is read at a time."""

    class Endless(ArraySpool):
        def slabs(self, elements: int) -> list:
            return super().slabs(elements) * 3

    monkeypatch.setattr(gram_module, "ROOM_BYTES", 8 * 2**20)
    spool = Endless(np.zeros((1, NORM_BLOCK)))
    spool.values = np.broadcast_to(np.linspace(-1, 1, NORM_BLOCK, dtype=np.float32), (120, NORM_BLOCK))
    tracemalloc.start()
    try:
        gram_of(120, spool)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * gram_module.ROOM_BYTES  # of whole blocks it would be more than seven times
