"""Screening, clipping and mixing before a rule: against a few lines of float64 each, in every order they compose."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_examples import ArrayRows, ArraySpool, candidates_of, combined, norm_squared_of, schema_of, updates_of

from aggregation.combine import Combined, combine
from aggregation.planning import plan_round
from aggregation.rules.gram import gram_of
from aggregation.rules.mixing import Mixer, nearest
from aggregation.rules.registry import RULES
from aggregation.rules.rule import Slab
from aggregation.rules.screening import ClippedRows, clip_factors, clipped
from aggregation.settings import CombineSettings
from aggregation.tensors.exact_sum import WEIGHT_MAX
from aggregation.tensors.flat import FlatLayout
from protocol.errors import FednodeError

LENGTH = 6
SCHEMA = schema_of(4, 2)
COUNTS = st.integers(1, 9)


def _vectors(count: st.SearchStrategy[int] = COUNTS, length: int = LENGTH) -> st.SearchStrategy[np.ndarray]:
    number = st.floats(-100, 100, width=32)
    row = st.lists(number, min_size=length, max_size=length)
    return count.flatmap(lambda n: st.lists(row, min_size=n, max_size=n)).map(lambda rows: np.array(rows, np.float32))


def _round(values: np.ndarray, run: CombineSettings, samples: list[int] | None = None, threads: int = 1) -> Combined:
    schema = SCHEMA if values.shape[1] == LENGTH else schema_of(values.shape[1])
    return combine(bytes(schema.model_bytes), schema, updates_of(values, samples), run, threads=threads)


def _difference(made: Combined) -> np.ndarray:
    return np.frombuffer(made.difference, "<f4").astype(np.float64)


def _names(made: Combined) -> set[int]:
    return {int(used.name[-3:]) for used in made.used}


# --- screening -------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(_vectors(), st.sampled_from([1.0, 1.5, 3.0]))
def test_who_is_so_many_times_the_median_is_refused(values: np.ndarray, factor: float) -> None:
    made = _round(values, CombineSettings(weighting="uniform", screen_factor=factor))
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    median = np.sort(norms)[(len(norms) - 1) // 2]
    surely_in = set(np.flatnonzero(norms <= factor * median * (1 - 1e-4)))
    surely_out = set(np.flatnonzero(norms > factor * median * (1 + 1e-4) + 1e-30))
    assert surely_in <= _names(made)
    assert not surely_out & _names(made)
    assert np.allclose(_difference(made), values[sorted(_names(made))].mean(0, np.float64), rtol=1e-5, atol=1e-5)
    assert {refusal.code for refusal in made.refused} <= {"norm-outlier"}
    assert len(made.used) + len(made.refused) == len(values)


def test_an_outlier_is_refused_in_words() -> None:
    values = np.ones((5, LENGTH), np.float32)
    values[3] *= 100
    made = _round(values, CombineSettings(screen_factor=10.0))
    (refusal,) = made.refused
    assert (refusal.name, refusal.code) == ("node-003", "norm-outlier")
    assert refusal.sentence == "its norm 244.949 is over 10 times the round's median of 2.44949"
    assert (_difference(made) == 1).all()


def test_screening_compares_exactly() -> None:
    values = np.ones((3, LENGTH), np.float32)
    values[2] = 3.0
    assert not _round(values, CombineSettings(screen_factor=3.0)).refused
    values[2, 0] = np.nextafter(np.float32(3), np.float32(4), dtype=np.float32)
    values[2] = np.round(values[2] * 2**15) / 2**15 + np.array([2**-15, 0, 0, 0, 0, 0], np.float32)
    assert [refusal.name for refusal in _round(values, CombineSettings(screen_factor=3.0)).refused] == ["node-002"]


def test_a_minority_cannot_screen_the_others_out() -> None:
    for lie in (0.0, 1e-6, 1e18):
        values = np.ones((9, LENGTH), np.float32)
        values[:4] *= lie
        made = _round(values, CombineSettings(screen_factor=2.0))
        assert _names(made) >= {4, 5, 6, 7, 8}


# --- clipping --------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(_vectors(), st.sampled_from(["median", 0.01, 1.0, 50.0]), st.data())
def test_a_clipped_mean_is_that_of_shortened_vectors(
    values: np.ndarray, clip: float | str, data: st.DataObject
) -> None:
    samples = data.draw(st.lists(st.integers(1, 30), min_size=len(values), max_size=len(values)))
    made = _round(values, CombineSettings(clip=clip), samples)
    wide = values.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    limit = np.sort(norms)[(len(norms) - 1) // 2] if isinstance(clip, str) else clip
    shortened = wide * np.minimum(1, limit / np.maximum(norms, 1e-300))[:, None]
    expected = np.average(shortened, axis=0, weights=samples)
    assert np.allclose(_difference(made), expected, rtol=1e-3, atol=1e-3 * limit + 1e-30)
    assert all(0 < used.weight <= WEIGHT_MAX for used in made.used)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**400), st.floats(2.0**-60, 2.0**60))
def test_a_factor_is_the_greatest_that_keeps_within(square: int, limit: float) -> None:
    from aggregation.rules.screening import _factor

    bound = Fraction(limit) ** 2 * 4**118
    factor = _factor(bound, square)
    assert factor**2 * square <= bound or factor == 1
    if factor < 1:
        assert factor.numerator.bit_length() <= 24
        assert float(np.float32(float(factor))) == factor  # as the rows are multiplied by it
        assert (factor * (1 + Fraction(1, 2**22))) ** 2 * square > bound
    else:
        assert square <= bound


@pytest.mark.parametrize("rule", ["mean", "geometric_median", "trimmed_mean", "median"])
@pytest.mark.parametrize("scale", [2.0**10, 2.0**50])
def test_a_huge_update_is_clipped_like_any_other_and_blurs_nobody(rule: str, scale: float) -> None:
    """In a sum, where it would have less than a part in 2^19 of a weight, nothing is left of it."""
    random = np.random.default_rng(0)
    values = random.standard_normal((5, 4000)).astype(np.float32)
    values[4] *= np.float32(scale)
    made = _round(values, CombineSettings(rule, "uniform", clip="median"))
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    shortened = (values * np.minimum(1, np.sort(norms)[2] / norms)[:, None]).astype(np.float32)
    gone = scale == 2.0**50 and rule in ("mean", "geometric_median")
    if gone and rule == "mean":
        shortened[4] = 0.0
    alike = _difference(_round(shortened, CombineSettings(rule, "uniform")))
    off = np.linalg.norm(_difference(made) - alike) / np.linalg.norm(alike)
    assert off < (0.5 if gone and rule != "mean" else 0.01)
    assert [refusal.code for refusal in made.refused] == ["set-aside"] * gone


def test_a_large_update_of_little_weight_leaves_others_their_bits() -> None:
    random = np.random.default_rng(6)
    values = random.standard_normal((5, 4000)).astype(np.float32)
    values[4] *= np.float32(2.0**17)
    made = _round(values, CombineSettings(weighting="uniform", clip="median"))
    weights = [used.weight for used in made.used]
    assert weights[4] < 6 < 2**18 < weights[0]
    expected = weights @ values.astype(np.float64) / (5 * 2**19)
    assert np.allclose(_difference(made), expected, rtol=0, atol=1e-6)


def test_a_weight_makes_nothing_longer_than_it_may_be() -> None:
    """Of three quarters of the least weight nothing is left, rather than a third too much."""
    values = np.ones((5, LENGTH), np.float32)
    values[4] *= np.float32(2.0**19 / 0.75)
    made = _round(values, CombineSettings(weighting="uniform", clip="median"))
    assert np.allclose(_difference(made), 0.8)
    assert [(refusal.name, refusal.code) for refusal in made.refused] == [("node-004", "set-aside")]
    values[4] = np.float32(2.0**19 / 1.75)
    assert _round(values, CombineSettings(weighting="uniform", clip="median")).used[4].weight == 1


def test_of_a_round_of_zeros_nothing_is_left_of_the_others() -> None:
    values = np.zeros((5, LENGTH), np.float32)
    values[0] = 1.0
    for rule in RULES:
        made = _round(values, CombineSettings(rule, "uniform", clip="median"))
        assert (_difference(made) == 0).all()
        assert ("node-000", "norm-outlier") in [(refusal.name, refusal.code) for refusal in made.refused]
    assert "the round's median 0" in made.refused[0].sentence


def test_clipped_rows_are_no_longer_than_they_may_be() -> None:
    random = np.random.default_rng(1)
    values = (random.standard_normal((7, 3000)) * 10.0 ** random.integers(-9, 9, (7, 1))).astype(np.float32)
    schema = schema_of(1000, 2000)
    candidates = candidates_of(schema, values)
    factors = clip_factors(candidates, 1.0)
    rows = ClippedRows(ArrayRows(values), factors)
    for index, candidate in enumerate(candidates):
        row = rows.read(index, np.empty(3000, np.float32)).copy()
        assert norm_squared_of(row) <= 4**118 * 1.00001
        after = clipped(candidate, factors[index]).checked.value_exponents
        for exponent, part in zip(after, (row[:1000], row[1000:]), strict=True):
            assert np.abs(part).max() <= 2.0**exponent


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"clip": "mode"}, "clipped to 'mode'"),
        ({"clip": 0.0}, "norm bound of 0"),
        ({"clip": float("nan")}, "norm bound of nan"),
        ({"screen_factor": 0.5}, "screen factor of 0.5"),
        ({"screen_factor": float("nan")}, "screen factor of nan"),
        ({"mix_share": 0.5}, "byzantine share of 0.5"),
    ],
)
def test_what_is_impossible_is_refused(change: dict[str, float], complaint: str) -> None:
    with pytest.raises(FednodeError, match=complaint):
        CombineSettings(**change)  # type: ignore[arg-type]


# --- mixing ----------------------------------------------------------------------------------------------------------


def _mixed_twin(x: np.ndarray, share: float) -> np.ndarray:
    taken = len(x) - int(share * len(x))
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distances, -1.0)
    return np.array([x[np.argsort(row, kind="stable")[:taken]].mean(0) for row in distances])


@settings(max_examples=150, deadline=None)
@given(_vectors(), st.sampled_from([0.0, 0.2, 0.4]))
def test_mixed_rows_are_those_of_five_lines(values: np.ndarray, share: float) -> None:
    values = np.round(values)  # whole numbers of at most 18 bits: no rounding in the Gram matrix
    candidates = candidates_of(SCHEMA, values)
    mixes = nearest(gram_of(len(values), ArraySpool(values)), share)
    rows = Mixer(FlatLayout.of(SCHEMA), candidates, mixes).mixed(Slab(0, LENGTH), ArrayRows(values))
    room = np.empty(LENGTH, np.float32)
    made = np.array([rows.read(index, room).copy() for index in range(len(rows))])
    assert np.allclose(made, _mixed_twin(values.astype(np.float64), share), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "mean", "krum", "geometric_median"])
def test_mixing_before_a_rule_is_the_rule_of_what_was_mixed(rule: str) -> None:
    random = np.random.default_rng(4)
    values = np.round(random.standard_normal((10, LENGTH)) * 1000).astype(np.float32)
    values[:2] += 20_000
    made = _round(values, CombineSettings(rule, "uniform", mix_share=0.2))
    twin = _mixed_twin(values.astype(np.float64), 0.2).astype(np.float32)
    expected = _round(twin, CombineSettings(rule, "uniform"))
    assert np.allclose(_difference(made), _difference(expected), rtol=1e-3, atol=1.0)
    assert np.abs(_difference(made)).max() < 2000  # the two far ones are in no honest mix


def test_a_liars_huge_values_blur_no_honest_mix() -> None:
    values = np.random.default_rng(7).standard_normal((10, LENGTH)).astype(np.float32)
    values[9] *= np.float32(2.0**60)
    mixes = nearest(gram_of(10, ArraySpool(values)), 0.2)
    rows = Mixer(FlatLayout.of(SCHEMA), candidates_of(SCHEMA, values), mixes).mixed(Slab(0, LENGTH), ArrayRows(values))
    for index in range(9):
        assert 9 not in mixes[index]
        mean = values[list(mixes[index])].mean(0, np.float64)
        assert np.allclose(rows.read(index, np.empty(LENGTH, np.float32)), mean, rtol=1e-6, atol=1e-9)


def test_mixing_is_exact_however_rows_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    from aggregation.rules import mixing

    random = np.random.default_rng(2)
    values = (random.standard_normal((70, 5000)) * 10.0 ** random.integers(-20, 9, (70, 1))).astype(np.float32)
    schema = schema_of(1234, 3766)
    candidates, layout = candidates_of(schema, values), FlatLayout.of(schema)
    mixes = nearest(gram_of(70, ArraySpool(values)), 0.2)

    def made(slab: Slab) -> np.ndarray:
        rows = Mixer(layout, candidates, mixes).mixed(slab, ArrayRows(values[:, slab.start : slab.stop]))
        return np.array([rows.read(i, np.empty(slab.stop - slab.start, np.float32)).copy() for i in range(70)])

    whole = made(Slab(0, 5000))
    for mixer, mix in enumerate(mixes):
        terms = np.array([[Fraction(float(v)) for v in values[index, 1230:1240]] for index in mix])
        exact = (terms.sum(0) / len(mix)).astype(np.float64)
        assert np.allclose(whole[mixer, 1230:1240], exact, rtol=1e-6, atol=2.0**-38 * np.abs(values[list(mix)]).max())
    assert np.array_equal(np.hstack([made(Slab(0, 4096)), made(Slab(4096, 5000))]), whole)
    monkeypatch.setattr(mixing, "_COLUMNS", 1024)
    monkeypatch.setattr(mixing, "_PRODUCT_STEPS", 10**6)
    monkeypatch.setattr(mixing, "_GROUP_ROWS", 7)
    assert np.array_equal(made(Slab(0, 5000)), whole)


# --- all of it -------------------------------------------------------------------------------------------------------

EVERYTHING = {"screen_factor": 4.0, "clip": "median", "mix_share": 0.2}


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(12)), threads=st.integers(0, 3), seed=st.integers(0, 9))
def test_order_and_threads_change_no_bit(rule: str, order: list[int], threads: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (random.standard_normal((12, LENGTH)) * 2.0 ** random.integers(-3, 3, (12, 1))).astype(np.float32)
    run, base = CombineSettings(rule, "uniform", **EVERYTHING), bytes(SCHEMA.model_bytes)  # type: ignore[arg-type]
    updates = updates_of(values)
    expected = combine(base, SCHEMA, updates, run)
    assert combine(base, SCHEMA, [updates[index] for index in order], run, threads=threads) == expected


@pytest.mark.parametrize("rule", RULES)
def test_slabs_change_no_bit(rule: str) -> None:
    values = np.random.default_rng(1).standard_normal((9, 80_000)).astype(np.float32)
    values[3] *= 50
    values[5] *= 2
    schema = schema_of(30_000, 50_000)
    layout, candidates = FlatLayout.of(schema), candidates_of(schema, values)
    plan = plan_round(layout, candidates, ArraySpool(values), CombineSettings(rule, "uniform", **EVERYTHING))  # type: ignore[arg-type]
    expected = combined(plan, layout, values).tobytes()
    plan.slab_elements = 4096
    assert combined(plan, layout, values).tobytes() == expected


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_hostile_rounds_have_a_result(rule: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    scales = data.draw(st.lists(st.integers(-149, 63), min_size=count, max_size=count))
    unit = data.draw(st.lists(st.floats(-63 / 64, 63 / 64, width=16), min_size=LENGTH, max_size=LENGTH))
    values = (np.array(unit)[None] * 2.0 ** np.array(scales, np.float64)[:, None]).astype(np.float32)
    change = {
        "screen_factor": data.draw(st.sampled_from([None, 1.0, 100.0])),
        "clip": data.draw(st.sampled_from([None, "median", 1e-9, 1e9])),
        "mix_share": data.draw(st.sampled_from([None, 0.0, 0.4])),
    }
    made = _round(values, CombineSettings(rule, "uniform", **change))
    assert np.isfinite(_difference(made)).all()
    assert np.abs(_difference(made)).max() <= np.abs(values).max() * 1.001 + 2.0**-120
    assert len(made.used) + len(made.refused) == count
    assert made.used
    assert all(0 < used.weight <= WEIGHT_MAX for used in made.used)


def test_a_remembered_check_without_a_norm_is_made_again() -> None:
    values = np.ones((3, LENGTH), np.float32)
    values[2] *= 100
    updates = updates_of(values)
    found = [candidate.checked for candidate in candidates_of(SCHEMA, values)]
    assert all(checked.norm_squared is not None for checked in found)
    remembered = [
        type(update)(update.name, update.source, 1, type(checked)(checked.value_exponents, None))
        for update, checked in zip(updates, found, strict=True)
    ]
    run = CombineSettings(screen_factor=3.0)
    made = combine(bytes(SCHEMA.model_bytes), SCHEMA, remembered, run)
    assert made == combine(bytes(SCHEMA.model_bytes), SCHEMA, updates, run)
    assert [refusal.name for refusal in made.refused] == ["node-002"]
