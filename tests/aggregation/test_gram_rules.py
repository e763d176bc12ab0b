"""Krum, multi-Krum, geometric median, centred clipping: against a few lines of float64 each, and hostile rounds."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_examples import ArraySpool, candidates_of, combined, schema_of, updates_of

from aggregation.combine import Combined, combine
from aggregation.rules.gram_rules import CLIPPING_STEPS, WEISZFELD_STEPS
from aggregation.rules.registry import make_rule
from aggregation.rules.rule import Plan
from aggregation.settings import CombineSettings
from aggregation.tensors.exact_sum import WEIGHT_MAX
from aggregation.tensors.flat import FlatLayout
from aggregation.tensors.schema import Schema
from protocol.errors import FednodeError

LENGTH = 6
SCHEMA = schema_of(4, 2)
GRAM_RULES = ("krum", "multi_krum", "geometric_median", "centred_clipping")
VECTORS = st.integers(1, 9).flatmap(
    lambda count: st.lists(
        st.lists(st.floats(-100, 100, width=32), min_size=LENGTH, max_size=LENGTH), min_size=count, max_size=count
    )
)


def _round(values: np.ndarray, settings: CombineSettings, samples: list[int] | None = None) -> Combined:
    schema = SCHEMA if values.shape[1] == LENGTH else schema_of(values.shape[1])
    return combine(bytes(schema.model_bytes), schema, updates_of(values, samples), settings)


def _difference(made: Combined) -> np.ndarray:
    return np.frombuffer(made.difference, "<f4").astype(np.float64)


def _plan(rule: str, values: np.ndarray, weighting: str = "uniform", samples: list[int] | None = None, **given) -> Plan:
    schema = SCHEMA if values.shape[1] == LENGTH else schema_of(values.shape[1])
    candidates = candidates_of(schema, values, samples)
    return make_rule(rule, weighting, given).plan(FlatLayout.of(schema), candidates, ArraySpool(values))


# --- twins -----------------------------------------------------------------------------------------------------------


def _krum_twin(x: np.ndarray, liars: int) -> np.ndarray:
    """The scores of Krum."""
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.array([np.sort(np.delete(row, i))[: len(x) - liars - 2].sum() for i, row in enumerate(squares)])


def _geometric_median_twin(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    start = distances[np.argmin(distances @ weights)]
    order = np.argsort(start)
    median = start[order[np.searchsorted(weights[order].cumsum(), weights.sum() / 2, "right")]]
    if median == 0:
        return x[start == 0][0]
    z = np.average(x, axis=0, weights=weights / np.maximum(start, median))
    for _ in range(WEISZFELD_STEPS):
        z = np.average(x, axis=0, weights=weights / np.maximum(np.linalg.norm(x - z, axis=1), 1e-6 * median))
    return z


def _centred_clipping_twin(x: np.ndarray, weights: np.ndarray, radius: float | None) -> np.ndarray:
    z = np.zeros(x.shape[1])
    for _ in range(CLIPPING_STEPS):
        distances = np.linalg.norm(x - z, axis=1)
        order = np.argsort(distances)
        median = distances[order[np.searchsorted(weights[order].cumsum(), weights.sum() / 2, "right")]]
        limit = median if radius is None else radius
        factors = np.array([1.0 if distance <= limit else limit / distance for distance in distances])
        z = z + np.average((x - z) * factors[:, None], axis=0, weights=weights)
    return z


@settings(max_examples=100, deadline=None)
@given(VECTORS, st.sampled_from([0.0, 0.2, 0.4]))
def test_krum_takes_one_of_the_least_scores(vectors: list[list[float]], share: float) -> None:
    x = np.array(vectors, np.float64)
    liars = min(int(share * len(x)), max(0, (len(x) - 3) // 2))
    made = _round(x, CombineSettings("krum", "uniform", {"byzantine_share": share}))
    if len(x) < 3:
        assert np.allclose(_difference(made), x.mean(0), atol=1e-4)
        return
    ((taken,),) = [[int(used.name[-3:]) for used in made.used]]
    scores = _krum_twin(x, liars)
    assert scores[taken] <= scores.min() + 1e-6 * (1 + np.abs(x).max() ** 2)
    assert np.allclose(_difference(made), x[taken], rtol=1e-6, atol=1e-9)
    several = _round(x, CombineSettings("multi_krum", "uniform", {"byzantine_share": share}))
    chosen = [int(used.name[-3:]) for used in several.used]
    assert len(chosen) == len(x) - liars
    assert scores[chosen].max() <= np.sort(scores)[len(chosen) - 1] + 1e-6 * (1 + np.abs(x).max() ** 2)
    assert np.allclose(_difference(several), x[chosen].mean(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("far", [1e3, 1e9, 1e15])
def test_the_geometric_median_is_reached_however_far_a_minority_lies(far: float) -> None:
    x = np.random.default_rng(5).normal(size=(9, LENGTH))
    x[5:] = far
    honest = x[:5]
    assert np.linalg.norm(_difference(_round(x, CombineSettings("geometric_median", "uniform")))) <= (
        3 * np.linalg.norm(honest, axis=1).max()
    )


@settings(max_examples=150, deadline=None)
@given(VECTORS, st.data())
def test_the_geometric_median_is_that_of_five_lines(vectors: list[list[float]], data: st.DataObject) -> None:
    x = np.round(np.array(vectors))  # whole numbers of at most 18 bits: no rounding in the Gram matrix
    samples = data.draw(st.lists(st.integers(1, 50), min_size=len(x), max_size=len(x)))
    weights = np.minimum(samples, 20)
    made = _round(x, CombineSettings("geometric_median", "samples", {"weight_max": 20}), samples)
    z, ours = _geometric_median_twin(x, weights), _difference(made)
    # Where several points are as central, the two may start from different ones; the sum of distances is as small.
    cost = weights @ np.linalg.norm(x - z, axis=1)
    assert weights @ np.linalg.norm(x - ours, axis=1) <= cost * (1 + 1e-3) + 1e-3
    starts = np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1) @ weights)
    if len(x) == 1 or starts[1] - starts[0] > 1e-6 * starts[0]:
        assert np.allclose(ours, z, rtol=1e-3, atol=1e-3 * np.abs(x).max())


@settings(max_examples=150, deadline=None)
@given(VECTORS, st.data(), st.sampled_from([None, 0.5, 20.0]))
def test_centred_clipping_is_that_of_five_lines(
    vectors: list[list[float]], data: st.DataObject, radius: float | None
) -> None:
    x = np.round(np.array(vectors))
    samples = data.draw(st.lists(st.integers(1, 50), min_size=len(x), max_size=len(x)))
    parameters = {"weight_max": 20.0} | ({} if radius is None else {"radius": radius})
    made = _round(x, CombineSettings("centred_clipping", "samples", parameters), samples)
    twin = _centred_clipping_twin(x, np.minimum(samples, 20), radius)
    assert np.allclose(_difference(made), twin, rtol=1e-3, atol=2e-3 * np.abs(x).max() + 1e-6)


# --- what must not change a bit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", GRAM_RULES)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(11)), threads=st.integers(0, 3), seed=st.integers(0, 9))
def test_order_and_threads_change_no_bit(rule: str, order: list[int], threads: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((11, LENGTH)).astype(np.float32)
    run, base = CombineSettings(rule, "uniform"), bytes(SCHEMA.model_bytes)
    updates = updates_of(values)
    expected = combine(base, SCHEMA, updates, run)
    assert combine(base, SCHEMA, [updates[index] for index in order], run, threads=threads) == expected


@pytest.mark.parametrize("rule", GRAM_RULES)
def test_slabs_change_no_bit(rule: str) -> None:
    values = np.random.default_rng(1).standard_normal((5, 80_000)).astype(np.float32)
    values[3] *= 50
    layout = FlatLayout.of(schema_of(80_000))
    plan = _plan(rule, values)
    expected = combined(plan, layout, values).tobytes()
    plan.slab_elements = 4096
    assert combined(plan, layout, values).tobytes() == expected


# --- what they are for -----------------------------------------------------------------------------------------------


def _lies(count: int, lie: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ten updates around one point, of which the first `count` are made into lies; and that point."""
    random = np.random.default_rng(8)
    middle = random.standard_normal(200)
    values = (middle + 0.1 * random.standard_normal((10, 200))).astype(np.float32)
    values[:count] = lie(values[:count])
    return values, middle


LIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "far": lambda x: x * 1e6,
    "unthinkably far": lambda x: x * 1e15,
    "the other way": lambda x: -x,
    "nothing": lambda x: x * 0,
    "all alike": lambda x: np.full_like(x, 3.0),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("rule", GRAM_RULES)
def test_three_liars_of_ten_do_not_move_it_far(rule: str, lie: str) -> None:
    values, middle = _lies(3, LIES[lie])
    parameters = {"byzantine_share": 0.3} if "krum" in rule else {}
    made = _round(values, CombineSettings(rule, "uniform", parameters))
    off = np.linalg.norm(_difference(made) - middle) / np.linalg.norm(middle)
    assert off < (0.35 if rule == "centred_clipping" else 0.15)
    mean = _round(values, CombineSettings(weighting="uniform"))
    assert (
        np.linalg.norm(_difference(mean) - middle) / np.linalg.norm(middle) > 0.25
    )  # so there was something to resist


@pytest.mark.parametrize("rule", GRAM_RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_rounds_of_any_size_have_a_result(rule: str, count: int) -> None:
    values = np.random.default_rng(count).standard_normal((count, LENGTH)).astype(np.float32)
    made = _round(values, CombineSettings(rule, "uniform"))
    assert {used.name for used in made.used} | {refusal.name for refusal in made.refused} == {
        update.name for update in updates_of(values)
    }
    assert np.isfinite(_difference(made)).all()
    assert np.linalg.norm(_difference(made)) <= np.linalg.norm(values, axis=1).max() * 1.001
    if count == 1:
        assert np.allclose(_difference(made), values[0], rtol=1e-3)


@pytest.mark.parametrize("rule", GRAM_RULES)
@pytest.mark.parametrize("value", [0.0, 1.0, 2.0**63, 2.0**-90])
def test_updates_that_are_all_alike_give_themselves(rule: str, value: float) -> None:
    values = np.full((5, LENGTH), value, np.float32)
    made = _round(values, CombineSettings(rule, "uniform"))
    assert np.allclose(_difference(made), values[0], rtol=1e-5 if rule == "centred_clipping" else 0, atol=0)


@pytest.mark.parametrize("rule", GRAM_RULES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_hostile_scales_stop_no_round(rule: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    scales = data.draw(st.lists(st.integers(-149, 63), min_size=count, max_size=count))
    unit = data.draw(st.lists(st.floats(-63 / 64, 63 / 64, width=16), min_size=LENGTH, max_size=LENGTH))
    values = (np.array(unit)[None] * 2.0 ** np.array(scales, np.float64)[:, None]).astype(np.float32)
    made = _round(values, CombineSettings(rule, "uniform"))
    assert np.isfinite(_difference(made)).all()
    assert np.abs(_difference(made)).max() <= np.abs(values).max() * 1.001 + 2.0**-120
    assert len(made.used) + len(made.refused) == count
    assert {refusal.code for refusal in made.refused} <= {"set-aside"}
    assert all(0 < used.weight <= WEIGHT_MAX for used in made.used)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_whom_krum_sets_aside_is_told_why() -> None:
    values, _ = _lies(2, LIES["far"])
    made = _round(values, CombineSettings("multi_krum", "uniform"))
    assert [(refusal.name, refusal.code) for refusal in made.refused] == [
        ("node-000", "set-aside"),
        ("node-001", "set-aside"),
    ]
    assert (
        "multi_krum took those that lie nearest to their neighbours, 8 of 10; it is number" in made.refused[0].sentence
    )
    assert made.stats["liars_assumed"] == 2
    assert made.stats["liars_not_borne"] == 0


def test_a_round_too_small_for_the_share_assumes_fewer_liars_and_says_so() -> None:
    values, _ = _lies(0, LIES["far"])
    made = _round(values[:6], CombineSettings("multi_krum", "uniform", {"byzantine_share": 0.49}))
    assert (made.stats["liars_assumed"], made.stats["liars_not_borne"]) == (1, 1)
    assert len(made.used) == 5


@pytest.mark.parametrize(
    ("rule", "parameters", "complaint"),
    [
        ("krum", {"byzantine_share": 0.5}, "byzantine share of 0.5"),
        ("krum", {"weight_max": 3}, "no parameter 'weight_max'"),
        ("geometric_median", {"weight_max": 0}, "cap of 0"),
        ("geometric_median", {"weight_max": 1.5}, "cap of 1.5"),
        ("mean", {"weight_max": 2 * WEIGHT_MAX}, "cap of 1048576"),
        ("centred_clipping", {"radius": 0.0}, "radius of 0.0"),
        ("centred_clipping", {"radius": float("nan")}, "radius of nan"),
    ],
)
def test_what_is_impossible_is_refused(rule: str, parameters: dict[str, float], complaint: str) -> None:
    with pytest.raises(FednodeError, match=complaint):
        CombineSettings(rule, "uniform", parameters)


def test_a_schema_without_values_has_a_result() -> None:
    schema = Schema.of_arrays({"n": np.array(3)})
    updates = updates_of(np.zeros((3, 2), np.float32))  # the counter's eight bytes
    for rule in GRAM_RULES:
        assert combine(bytes(8), schema, updates, CombineSettings(rule, "uniform")).model == bytes(8)
