"""Updates: made from a trained model, and judged by their bytes alone."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rule_examples import norm_squared_of

from aggregation.codecs.codec import MalformedCode
from aggregation.codecs.registry import CODECS, codec_named
from aggregation.measuring import Measuring
from aggregation.tensors.norms import NORM_BLOCK, NORM_UNIT_BITS
from aggregation.tensors.schema import Schema
from aggregation.tensors.sources import FileSink, as_source
from aggregation.updates import (
    COUNTER_RISE_MAX,
    SAMPLES_MAX,
    Bounds,
    Checked,
    Refusal,
    check_norm_bound,
    check_update,
    encode_update,
    read_counters,
    update_of,
)
from protocol.errors import FednodeError

FP32, BF16 = codec_named("fp32"), codec_named("bf16")
ARRAYS = {
    "body": np.zeros((2, 2), np.float32),
    "head": np.zeros(3, np.float32),
    "steps": np.array(10, np.int64),
    "seen": np.array([-5, 7], np.int8),
}
SCHEMA = Schema.of_arrays(ARRAYS)
BASE = SCHEMA.raw_of(ARRAYS)
COUNTERS = {"steps": ARRAYS["steps"], "seen": ARRAYS["seen"]}


def _blob(values: list[float], steps: int = 11, seen: tuple[int, int] = (-5, 7)) -> bytes:
    return np.array(values, "<f4").tobytes() + np.int64(steps).tobytes() + np.array(seen, np.int8).tobytes()


def _judge(blob: bytes, samples: object = 5, norm: float | None = None) -> Checked | Refusal:
    return check_update(SCHEMA, FP32, Bounds(COUNTERS, norm), update_of("ada", blob, samples))  # type: ignore[arg-type]


def test_a_good_update_passes_with_its_findings() -> None:
    found = _judge(_blob([1, -3, 0, 0, 0, 0, -0.0]), norm=3.2)
    assert isinstance(found, Checked)
    assert found.value_exponents == (2, -149)
    assert found.norm_squared == 10 * 4**NORM_UNIT_BITS
    assert found.norm == pytest.approx(10**0.5)
    assert _judge(_blob([1, -3, 0, 0, 0, 0, -0.0])) == Checked((2, -149), None)


GOOD = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0]
NAN, INF = float("nan"), float("inf")
COUNTER_SENTENCE = "its counter 'steps' rises by more than 2^32 in one round"


@pytest.mark.parametrize(
    ("blob", "samples", "code", "sentence"),
    [
        (_blob([*GOOD[:6], NAN]), 5, "update-not-finite", "its tensor 'head' holds a NaN or an infinity"),
        (_blob([*GOOD[:6], -NAN]), 5, "update-not-finite", "its tensor 'head' holds a NaN or an infinity"),
        (_blob([-INF, *GOOD[1:]]), 5, "update-not-finite", "its tensor 'body' holds a NaN or an infinity"),
        (_blob([INF, *GOOD[1:]]), 5, "update-not-finite", "its tensor 'body' holds a NaN or an infinity"),
        (_blob([2.0**64, *GOOD[1:]]), 5, "update-too-large", "its tensor 'body' holds a value of 2^64 or more"),
        (_blob([*GOOD[:5], -3e38, 0]), 5, "update-too-large", "its tensor 'head' holds a value of 2^64 or more"),
        (_blob([2.0**64, *GOOD[1:6], NAN]), 5, "update-not-finite", "its tensor 'head' holds a NaN or an infinity"),
        (_blob(GOOD)[:-1], 5, "update-length", "it has 37 bytes; the schema in fp32 makes 38"),
        (_blob(GOOD) + b"\0", 5, "update-length", "it has 39 bytes; the schema in fp32 makes 38"),
        (b"", 5, "update-length", "it has 0 bytes; the schema in fp32 makes 38"),
        (_blob(GOOD), 0, "samples-out-of-range", "it claims 0 samples, not a whole number from 1 to 2^48"),
        (_blob(GOOD), -3, "samples-out-of-range", "it claims -3 samples, not a whole number from 1 to 2^48"),
        (_blob(GOOD), SAMPLES_MAX + 1, "samples-out-of-range", None),
        (_blob(GOOD) + b"x", SAMPLES_MAX + 1, "update-length", None),
        (_blob(GOOD), 5.0, "samples-out-of-range", None),
        (_blob(GOOD), NAN, "samples-out-of-range", None),
        (_blob(GOOD), True, "samples-out-of-range", None),
        (_blob(GOOD, 11 + COUNTER_RISE_MAX), 5, "counter-too-large", COUNTER_SENTENCE),
        (_blob(GOOD, 2**63 - 1), 5, "counter-too-large", None),
    ],
)  # fmt: skip
def test_an_unusable_update_is_refused_by_name(blob: bytes, samples: object, code: str, sentence: str | None) -> None:
    refusal = _judge(blob, samples)
    assert isinstance(refusal, Refusal)
    assert (refusal.name, refusal.code) == ("ada", code)
    assert sentence is None or refusal.sentence == sentence


@pytest.mark.parametrize("steps", [-(2**63), 0, 10, 10 + COUNTER_RISE_MAX])
def test_counters_may_stay_fall_or_rise_within_reason(steps: int) -> None:
    assert isinstance(_judge(_blob(GOOD, steps, (127, -128))), Checked)


def test_a_norm_is_held_against_its_bound_exactly() -> None:
    blob = _blob([3, 4, 0, 0, 0, 0, 0])
    assert isinstance(_judge(blob, norm=5.0), Checked)
    refusal = _judge(blob, norm=float(np.nextafter(5.0, 0)))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.sentence) == ("norm-too-large", "its norm 5 is over the bound of 5")


def test_findings_are_trusted_and_still_held_against_the_bound() -> None:
    found = _judge(_blob([3, 4, 0, 0, 0, 0, 0]), norm=100.0)
    assert isinstance(found, Checked)
    unread = update_of("ada", bytes(38), 5, found)
    assert check_update(SCHEMA, FP32, Bounds(COUNTERS, 100.0), unread) is found
    assert isinstance(check_update(SCHEMA, FP32, Bounds(COUNTERS, 4.0), unread), Refusal)
    # Findings without a norm do not do where a norm decides: the update is read again.
    unmeasured = update_of("ada", _blob([3, 4, 0, 0, 0, 0, 0]), 5, Checked((3, -149), None))
    assert isinstance(check_update(SCHEMA, FP32, Bounds(COUNTERS, 4.0), unmeasured), Refusal)


def _norm_twin(values: np.ndarray) -> Fraction:
    """The definition in Python's numbers: 18 bits for each block's largest value, and exact squares."""
    total = Fraction(0)
    for start in range(0, len(values), NORM_BLOCK):
        block = [Fraction(float(value)) for value in values[start : start + NORM_BLOCK]]
        greatest = max(map(abs, block))
        if greatest >= Fraction(2) ** -101:
            exponent = np.frexp(float(greatest))[1]
            unit = Fraction(2) ** int(exponent - 18)
            total += sum((round(value / unit) * unit) ** 2 for value in block)
    return total * 4**NORM_UNIT_BITS


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-(2.0**63), 2.0**63, width=32)))
def test_norms_are_those_of_the_definition(values: np.ndarray) -> None:
    assert norm_squared_of(values) == _norm_twin(values)


def test_a_norm_over_several_blocks_is_the_true_one_but_for_little() -> None:
    random = np.random.default_rng(2)
    values = random.standard_normal(150_001).astype(np.float32)
    values[NORM_BLOCK:] *= 1e-4
    true = float((values.astype(np.float64) ** 2).sum())
    assert norm_squared_of(values) / 4**NORM_UNIT_BITS == pytest.approx(true, rel=1e-6)
    # The worst that can be hidden below the largest value's quantum.
    hidden = np.full(NORM_BLOCK, 0.499, np.float32)
    hidden[0] = 2.0**17
    true = float((hidden.astype(np.float64) ** 2).sum())
    assert norm_squared_of(hidden) / 4**NORM_UNIT_BITS == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("bound", [0.0, -1.0, NAN, INF, 1e-300, 2.0**64])
def test_bounds_that_bound_nothing_are_refused(bound: float) -> None:
    with pytest.raises(FednodeError, match="is impossible"):
        check_norm_bound(bound)


@pytest.mark.parametrize("codec", [FP32, BF16])
def test_a_trained_model_becomes_a_blob(codec, tmp_path: Path) -> None:
    trained = {**ARRAYS, "body": np.array([[1, -2], [0.5, 0]], np.float32), "steps": np.array(14, np.int64)}
    blob = encode_update(SCHEMA, BASE, SCHEMA.raw_of(trained), codec)
    decoded = codec.decode(blob[: codec.coded_bytes(7)], np.empty(7, np.float32))
    assert decoded.tolist() == [1, -2, 0.5, 0, 0, 0, 0]
    assert read_counters(SCHEMA, as_source(blob), codec.coded_bytes(7))["steps"] == 14
    for name, data in (("base", BASE), ("trained", SCHEMA.raw_of(trained))):
        (tmp_path / name).write_bytes(data)
    with FileSink(tmp_path / "update") as sink:
        encode_update(SCHEMA, tmp_path / "base", tmp_path / "trained", codec, sink)
    assert (tmp_path / "update").read_bytes() == blob


def test_a_model_trained_to_nan_makes_an_update_that_is_refused() -> None:
    trained = SCHEMA.raw_of({**ARRAYS, "head": np.array([1, np.inf, np.nan], np.float32)})
    for codec in CODECS.values():
        update = update_of("ada", encode_update(SCHEMA, BASE, trained, codec), 1)
        refusal = check_update(SCHEMA, codec, Bounds(COUNTERS), update)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "update-not-finite"


@pytest.mark.parametrize("indexes", [(7,), (0xFFFF,)])
def test_a_code_that_no_encoder_writes_is_refused_by_name(indexes: tuple[int, ...]) -> None:
    blob = np.array([*indexes, 0x3F80], "<u2").tobytes() + _blob(GOOD)[-10:]
    refusal = check_update(SCHEMA, codec_named("top10"), Bounds(COUNTERS, 10.0), update_of("ada", blob, 1))
    sentence = "it is no code in top10: The indexes of a block do not ascend, or lie outside of it"
    assert refusal == Refusal("ada", "malformed-code", sentence)


def test_models_of_another_length_make_no_update() -> None:
    with pytest.raises(FednodeError, match="its schema says"):
        encode_update(SCHEMA, BASE, BASE + b"\0", FP32)
    with pytest.raises(FednodeError, match="its schema says"):
        encode_update(SCHEMA, BASE[:-1], BASE, FP32)


LARGE = Schema.of_arrays(
    {"a": np.zeros(70_001, np.float32), "b": np.zeros((3, 30_000), np.float32), "steps": np.array(10, np.int64)}
)


@given(
    st.sampled_from(sorted(CODECS)),
    st.sampled_from(["", "nan", "huge", "flipped", "counter"]),
    st.lists(st.integers(0, 2**20), max_size=8),
    st.integers(0, 2**20),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_an_update_is_judged_alike_however_it_is_cut(
    name: str, harm: str, cuts: list[int], taken: int, with_norm: bool, seed: int
) -> None:
    """docs/protocol.md §8.28."""
    codec, random = codec_named(name), np.random.default_rng(seed)
    values = random.normal(size=LARGE.averaged_elements).astype(np.float32)
    values[int(random.integers(len(values)))] *= {"nan": NAN, "huge": 2.0**65}.get(harm, 1)
    steps = np.int64(10 + (harm == "counter") * (COUNTER_RISE_MAX + 1))
    blob = bytearray(codec.encode(values) + steps.tobytes())
    if harm == "flipped":
        blob[int(random.integers(len(blob)))] ^= 0xFF
    bounds = Bounds({"steps": np.array(10, np.int64)}, norm=500.0 if with_norm else None)
    update = update_of("ada", bytes(blob), 5)
    whole = check_update(LARGE, codec, bounds, update)

    measuring: Measuring | None = Measuring(LARGE, codec, with_norm=with_norm)
    edges = sorted({0, *(min(cut, taken, len(blob)) for cut in cuts), min(taken, len(blob))})
    try:
        for start, stop in pairwise(edges):
            assert measuring is not None
            measuring.take(blob[start:stop])
    except MalformedCode:
        measuring = None  # who takes pieces lets the whole be judged then
        assert isinstance(whole, Refusal)
        assert whole.code == "malformed-code"
    assert check_update(LARGE, codec, bounds, update, measuring) == whole


def test_what_was_measured_without_norms_is_measured_again_where_they_are_needed() -> None:
    blob = _blob(GOOD)
    measuring = Measuring(SCHEMA, FP32, with_norm=False)
    measuring.take(blob)
    found = check_update(SCHEMA, FP32, Bounds(COUNTERS, 100.0), update_of("ada", blob, 5), measuring)
    assert isinstance(found, Checked)
    assert found.norm_squared == 30 * 4**NORM_UNIT_BITS
