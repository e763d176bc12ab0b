"""The coordinate median and the trimmed mean: the defined bits, whatever the order, slab, thread or way of sorting."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation.combine import Combined, combine
from aggregation.rules import coordinates
from aggregation.rules.coordinates import NETWORK_ROWS_MAX, RankMean, slab_elements
from aggregation.rules.rule import Slab
from aggregation.rules.sorting_network import network
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import F32, SLAB_ELEMENTS
from aggregation.tensors.schema import Schema
from aggregation.updates import update_of
from protocol.errors import FednodeError, LocalProtocolError
from protocol.manifest.defences import byzantine_count

WAYS = ("network", "sorting")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


class _Rows:
    """Rows in memory; every second one as a view, which must not be written to."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float32)
        self.values.setflags(write=False)

    def __len__(self) -> int:
        return len(self.values)

    def read(self, index: int, out: F32) -> F32:
        if index % 2:
            return self.values[index]
        out[:] = self.values[index]
        return out


def _rank_mean(values: np.ndarray, trimmed: int, way: str = "network") -> F32:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinates, "NETWORK_ROWS_MAX", 10**9 if way == "network" else 0)
        out = np.empty(values.shape[1], np.float32)
        RankMean(len(values), trimmed).combiner()(Slab(0, values.shape[1]), _Rows(values), out)
        return out


def _twin(values: Sequence[float], trimmed: int) -> np.float32:
    kept = sorted(value + 0.0 for value in values)[trimmed : len(values) - trimmed]
    total = 0.0
    for value in kept:
        total += value
    return np.float32(total / len(kept))


# --- the definition --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 3), st.sampled_from(WAYS))
def test_every_bit_is_that_of_five_lines_in_float64(
    data: st.DataObject, count: int, coordinates_count: int, way: str
) -> None:
    trimmed = data.draw(st.integers(0, (count - 1) // 2))
    values = np.array(
        data.draw(
            st.lists(
                st.lists(FINITE, min_size=count, max_size=count), min_size=coordinates_count, max_size=coordinates_count
            )
        ),
        np.float32,
    ).T
    expected = np.array([_twin(column.tolist(), trimmed) for column in values.T], np.float32)
    assert _rank_mean(values, trimmed, way).tobytes() == expected.tobytes()


@pytest.mark.parametrize("count", [1, 2, 3, 10, 51, 128, 129, 300])
def test_median_and_trimmed_mean_are_what_numpy_says(count: int) -> None:
    values = np.random.default_rng(count).standard_normal((count, 700)).astype(np.float32)
    ordered = np.sort(values.astype(np.float64), axis=0)
    for way in WAYS:
        assert np.allclose(_rank_mean(values, (count - 1) // 2, way), np.median(ordered, axis=0), rtol=1e-6)
        trimmed = byzantine_count(0.2, count)
        assert np.allclose(_rank_mean(values, trimmed, way), ordered[trimmed : count - trimmed].mean(axis=0), atol=1e-6)


def test_an_even_number_has_the_mean_of_the_middle_two() -> None:
    great = float(np.finfo(np.float32).max)
    values = np.array([[1.0, great, -0.0], [2.0, great, 0.0], [7.0, 0.0, -0.0], [-9.0, great, -1.0]])
    for way in WAYS:
        assert _rank_mean(values, 1, way).tolist() == [1.5, great, 0.0]  # 2 · great is no float32


@pytest.mark.parametrize(
    ("share", "count", "trimmed"), [(0.2, 10, 2), (0.29, 100, 29), (0.3, 10, 3), (0.1, 9, 0), (0.49, 1, 0), (0, 7, 0)]
)
def test_as_many_are_trimmed_as_the_share_says_in_decimals(share: float, count: int, trimmed: int) -> None:
    assert byzantine_count(share, count) == trimmed


def test_a_share_that_nothing_survives_is_refused() -> None:
    for share in (0.5, -0.1, float("nan")):
        with pytest.raises(FednodeError, match="cannot be survived"):
            CombineSettings(rule="trimmed_mean", rule_parameters={"byzantine_share": share})


# --- what must not change a bit --------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_neither_order_nor_the_sign_of_zero_changes_a_bit(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 20))
    column = data.draw(st.lists(st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0]), min_size=count, max_size=count))
    shuffled = [-value if value == 0 else value for value in data.draw(st.permutations(column))]
    trimmed = data.draw(st.integers(0, (count - 1) // 2))
    outcomes = {_rank_mean(np.array([c]).T, trimmed, way).tobytes() for c in (column, shuffled) for way in WAYS}
    assert len(outcomes) == 1


LARGE = Schema.of_arrays({"a": np.zeros(70_000, np.float32), "b": np.zeros(30_001, np.float32), "n": np.array(0)})


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("codec", ["fp32", "bf16"])
def test_order_threads_and_slabs_change_no_bit(rule: str, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    coding = CombineSettings(update_codec=codec).update_coding
    updates = [
        update_of(
            f"node-{i}", coding.encode(random.standard_normal(100_001, np.float32)) + np.int64(i).tobytes(), 10 + i
        )
        for i in range(7)
    ]
    run = CombineSettings(rule=rule, update_codec=codec)

    def combined(order: Sequence[int], threads: int) -> Combined:
        return combine(bytes(LARGE.model_bytes), LARGE, [updates[i] for i in order], run, threads=threads)

    expected = combined(range(7), 1)
    assert [used.weight for used in expected.used] == [1] * 7
    assert expected.exponents == ()
    for room, rows_max, threads in product([2**16, 2**18, 2**21], [0, NETWORK_ROWS_MAX], [1, 3]):
        monkeypatch.setattr(coordinates, "ROOM_ELEMENTS", room)
        monkeypatch.setattr(coordinates, "NETWORK_ROWS_MAX", rows_max)
        assert combined([6, 2, 5, 0, 1, 4, 3], threads) == expected


def test_memory_is_bounded_for_any_number_of_updates() -> None:
    assert [slab_elements(count) for count in (1, 10, 32, 33, 50, 100, 512, 4096)] == [
        *[SLAB_ELEMENTS] * 3,
        *[32_768] * 2,
        16_384,
        4096,
        4096,
    ]


# --- what must not pass in silence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trimmed", [0, 1, 2])
@pytest.mark.parametrize("liar", range(5))
def test_nan_that_came_after_the_checks_is_told(way: str, trimmed: int, liar: int) -> None:
    values = np.random.default_rng(1).standard_normal((5, 40)).astype(np.float32)
    values[liar, 17] = np.nan
    with pytest.raises(LocalProtocolError, match="not finite"):
        _rank_mean(values, trimmed, way)


# --- the network -----------------------------------------------------------------------------------------------------


def _ranked(values: list[int], ranks: tuple[int, ...]) -> list[int]:
    """The values of these ranks; what a comparator need not make is made useless, so that nothing relies on it."""
    places = list(values)
    for low, high, lesser, greater in network(len(values), ranks):
        one, other = places[low], places[high]
        places[low] = min(one, other) if lesser else -99
        places[high] = max(one, other) if greater else -99
    return [places[rank] for rank in ranks]


@pytest.mark.parametrize("count", range(1, 15))
def test_a_network_that_sorts_zeros_and_ones_sorts_everything(count: int) -> None:
    """By the 0-1 principle (Knuth, volume 3, theorem 5.3.4Z)."""
    every, median = tuple(range(count)), ((count - 1) // 2, count // 2)
    for values in product((0, 1), repeat=count):
        assert _ranked(list(values), every) == sorted(values)
        assert _ranked(list(values), median) == [sorted(values)[rank] for rank in median]


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(15, NETWORK_ROWS_MAX))
def test_larger_networks_find_every_rank(data: st.DataObject, count: int) -> None:
    ones = data.draw(st.integers(0, count))
    values = data.draw(st.permutations([0] * (count - ones) + [1] * ones))
    low = data.draw(st.integers(0, count - 1))
    ranks = tuple(range(low, data.draw(st.integers(low, count - 1)) + 1))
    assert _ranked(list(values), ranks) == [sorted(values)[rank] for rank in ranks]


def test_what_no_wanted_rank_depends_on_is_left_out() -> None:
    comparators = {count: len(network(count, ((count - 1) // 2, count // 2))) for count in (10, 50, 100)}
    assert comparators == {10: 29, 50: 329, 100: 889}
    assert len(network(10, (0,))) == 9  # the least of ten takes nine comparisons
