"""Error feedback: what a code loses is not lost for good."""

import numpy as np
import pytest
from aggregation_examples import SCHEMA, random_model
from hypothesis import given
from hypothesis import strategies as st

from aggregation.codecs.codec import Codec
from aggregation.codecs.registry import CODECS, codec_named, counters_position
from aggregation.tensors.flat import F32, SLAB_ELEMENTS
from aggregation.tensors.schema import Schema
from aggregation.updates import difference_of, encode_update

LOSSY = [name for name, codec in CODECS.items() if codec.needs_feedback]


def decoded(codec: Codec, blob: bytes, elements: int) -> F32:
    out = np.empty(elements, np.float32)
    for start in range(0, elements, SLAB_ELEMENTS):
        stop = min(start + SLAB_ELEMENTS, elements)
        coded = blob[codec.coded_bytes(start) : codec.coded_bytes(stop)]
        out[start:stop] = codec.decode(coded, np.empty(stop - start, np.float32))
    return out


def rounds(codec: Codec, schema: Schema, seeds: list[int], *, feedback: bool) -> tuple[F32, F32]:
    """What was learned in all rounds, and what receivers have of it."""
    elements = schema.averaged_elements
    residual = np.zeros(elements, np.float32) if feedback else None
    learned, received = np.zeros((2, elements), np.float64)
    base = schema.raw_of({spec.name: np.zeros(spec.shape, spec.numpy_dtype) for spec in schema.tensors})
    for seed in seeds:
        trained = random_model(np.random.default_rng(seed), schema)
        learned += difference_of(schema, base, trained)
        received += decoded(codec, encode_update(schema, base, trained, codec, residual=residual), elements)
    if residual is not None:
        assert received + residual == pytest.approx(learned, rel=1e-4, abs=1e-4)
    return learned, received


def test_there_are_codecs_that_need_it() -> None:
    assert "int8" in LOSSY
    assert any(name.startswith("top") for name in LOSSY)


@pytest.mark.parametrize("name", LOSSY)
@given(seeds=st.lists(st.integers(0, 9999), min_size=1, max_size=6))
def test_what_was_sent_and_what_is_kept_are_all_that_was_learned(name: str, seeds: list[int]) -> None:
    rounds(codec_named(name), SCHEMA, seeds, feedback=True)


@pytest.mark.parametrize("name", LOSSY)
def test_over_rounds_the_sum_converges_to_the_true_one(name: str) -> None:
    """The same difference again and again: with feedback its mean arrives, without it the same part is lost always."""
    schema = Schema.of_arrays({"w": np.zeros(SLAB_ELEMENTS + 300, np.float32)})
    count = 150 if name.startswith("top") else 30
    learned, with_feedback = rounds(codec_named(name), schema, [7] * count, feedback=True)
    _, without = rounds(codec_named(name), schema, [7] * count, feedback=False)
    off, off_without = (np.linalg.norm(got - learned) / np.linalg.norm(learned) for got in (with_feedback, without))
    assert off < 0.35
    assert off < off_without / 2


@pytest.mark.parametrize("name", CODECS)
def test_a_control_lies_behind_the_difference_and_becomes_what_receivers_see(name: str) -> None:
    codec, elements = codec_named(name), SLAB_ELEMENTS + 300
    schema = Schema.of_arrays({"w": np.zeros(elements, np.float32), "seen": np.zeros(2, np.int64)})
    random = np.random.default_rng(3)
    base, trained = random_model(random, schema), random_model(random, schema)
    wanted = random.standard_normal(elements).astype(np.float32)
    control, residual = wanted.copy(), np.zeros(2 * elements, np.float32)
    blob = encode_update(schema, base, trained, codec, residual=residual, control=control)
    assert len(blob) == codec.coded_bytes(2 * elements) + schema.counters_bytes
    assert blob[-16:] == trained[-16:]
    both = decoded(codec, blob, 2 * elements)
    assert (both[elements:] == control).all()
    difference = difference_of(schema, base, trained)
    assert both + residual == pytest.approx(np.concatenate([difference, wanted]), abs=1e-5)
    if name == "fp32":
        assert (both[:elements] == difference).all()
        plain = encode_update(schema, base, trained, codec)
        assert plain[: counters_position(schema, codec)] == blob[: codec.coded_bytes(elements)]
