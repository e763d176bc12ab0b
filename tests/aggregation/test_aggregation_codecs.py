"""Codecs and the flat view: precision, layout, and that any slab can be decoded alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aggregation.codecs import CODECS, codec_named, counters_position, difference_bytes
from aggregation.flat import FlatLayout, Piece, add_difference, is_finite, take_difference
from aggregation.schema import Schema, TensorSpec
from protocol.errors import FednodeError

ANY_FLOAT32 = arrays.arrays(np.uint32, st.integers(0, 50)).map(lambda bits: bits.view(np.float32))
INTERESTING = np.array(
    [
        0.0,
        -0.0,
        1.0,
        1.00390625,  # half-way between two bfloat16 values, the lower one even
        1.01171875,  # half-way, the upper one even
        float.fromhex("0x1.00ffffp0"),
        float.fromhex("0x1.fffffep127"),  # rounds to infinity
        float.fromhex("0x1.fep127"),
        1e-45,
        -1e-45,
        np.inf,
        -np.inf,
        np.nan,
    ],
    np.float32,
)


def _decoded(name: str, values: np.ndarray) -> np.ndarray:
    codec = codec_named(name)
    return codec.decode(codec.encode(values), np.empty(len(values), np.float32))


def test_fp32_keeps_every_bit() -> None:
    assert _decoded("fp32", INTERESTING).tobytes() == INTERESTING.tobytes()


def test_bf16_rounds_interesting_values_as_torch_does() -> None:
    theirs = torch.from_numpy(INTERESTING).to(torch.bfloat16)
    ours = np.frombuffer(codec_named("bf16").encode(INTERESTING), np.uint16)
    assert (ours[:-1] == theirs.view(torch.int16).numpy().view(np.uint16)[:-1]).all()
    assert ours[-1] == 0x7FC0


@settings(max_examples=200)
@given(ANY_FLOAT32)
def test_bf16_rounds_as_torch_does(values: np.ndarray) -> None:
    theirs = torch.from_numpy(values.copy()).to(torch.bfloat16).to(torch.float32).numpy()
    ours = _decoded("bf16", values)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    known = ~np.isnan(ours)
    assert (ours[known].view(np.uint32) == theirs[known].view(np.uint32)).all()


@pytest.mark.parametrize("name", sorted(CODECS))
def test_a_slab_is_coded_as_if_it_were_alone(name: str) -> None:
    codec = codec_named(name)
    assert 4096 % codec.block == 0
    values = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    whole = codec.encode(values)
    assert len(whole) == codec.coded_bytes(10_000)
    slabs = [slice(0, 4096), slice(4096, 8192), slice(8192, 10_000)]
    assert b"".join(codec.encode(values[slab]) for slab in slabs) == whole
    for slab in slabs:
        part = whole[codec.coded_bytes(slab.start) : codec.coded_bytes(slab.stop)]
        alone = codec.decode(part, np.empty(slab.stop - slab.start, np.float32))
        assert (alone == codec.decode(whole, np.empty(10_000, np.float32))[slab]).all()


def test_an_unknown_codec_is_named_with_the_known_ones() -> None:
    with pytest.raises(FednodeError, match=r"no codec 'zip'.*fp32, bf16"):
        codec_named("zip")


def test_a_blob_is_coded_tensors_then_counters() -> None:
    specs = [TensorSpec("w", "float64", (5,), "averaged"), TensorSpec("n", "int32", (3,), "counter")]
    schema = Schema.of([*specs, TensorSpec("f", "float32", (9,), "frozen")])
    assert (counters_position(schema, CODECS["fp32"]), difference_bytes(schema, CODECS["fp32"])) == (20, 32)
    assert (counters_position(schema, CODECS["bf16"]), difference_bytes(schema, CODECS["bf16"])) == (10, 22)


MIXED = Schema.of(
    TensorSpec(name, dtype, shape, "averaged")
    for name, dtype, shape in [
        ("a", "float32", (3,)),
        ("empty", "float32", (0, 4)),
        ("b", "float32", (2,)),
        ("c", "float64", (2, 2)),
        ("d", "bfloat16", ()),
        ("e", "float16", (2,)),
    ]
)


def test_the_flat_vector_maps_to_tensors_and_to_bytes() -> None:
    layout = FlatLayout.of(MIXED)
    assert layout.elements == 12
    assert list(layout.slabs(5)) == [(0, 5), (5, 10), (10, 12)]
    assert list(layout.pieces(0, 5)) == [Piece(0, 0, 3), Piece(2, 3, 5)]
    assert list(layout.pieces(4, 10)) == [Piece(2, 0, 1), Piece(3, 1, 5), Piece(4, 5, 6)]
    assert list(layout.stored(0, 12)) == [
        ("float32", 0, slice(0, 5)),
        ("float64", 20, slice(5, 9)),
        ("bfloat16", 52, slice(9, 10)),
        ("float16", 54, slice(10, 12)),
    ]
    assert list(layout.stored(6, 8)) == [("float64", 28, slice(0, 2))]


def _bits(*values: float) -> np.ndarray:
    return torch.tensor(values, dtype=torch.bfloat16).view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize(
    ("dtype", "base", "difference", "expected"),
    [
        ("float32", np.array([1, -0.0], "f4"), [0.5, -0.0], np.array([1.5, -0.0], "f4")),
        ("float32", np.array([3e38, -3e38], "f4"), [3e38, -3e38], np.array([3.4028235e38, -3.4028235e38], "f4")),
        ("float64", np.array([1e300, 1.0]), [1, 2**-40], np.array([1e300, 1 + 2**-40])),
        ("float16", np.array([60000, 1], "f2"), [60000, 2**-12], np.array([65504, 1], "f2")),
        ("bfloat16", _bits(1.0, -256.0), [2**-7, 1.0], _bits(1 + 2**-7, -255.0)),
        ("bfloat16", _bits(1.0), [2**-9], _bits(1.0)),
    ],
)
def test_a_difference_is_added_in_the_models_dtype(
    dtype: str, base: np.ndarray, difference: list[float], expected: np.ndarray
) -> None:
    total = add_difference(dtype, base, np.array(difference, np.float32))
    assert total.dtype == expected.dtype
    assert total.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_taking_and_adding_a_difference_give_the_trained_model(dtype: str) -> None:
    random = np.random.default_rng(3)
    values = torch.from_numpy(random.integers(-100, 100, (2, 500)) / 64).to(getattr(torch, dtype))
    if dtype == "bfloat16":
        base, trained = values.view(torch.int16).numpy().view(np.uint16)
    else:
        base, trained = values.numpy()
    difference = np.empty(500, np.float32)
    take_difference(dtype, base, trained, difference)
    assert add_difference(dtype, base, difference).tobytes() == trained.tobytes()


def test_finiteness_is_seen_in_every_dtype() -> None:
    for special in (np.nan, np.inf, -np.inf):
        assert not is_finite(_bits(1.0, special), "bfloat16")
        assert not is_finite(np.array([1.0, special]), "float64")
    assert is_finite(_bits(3e38, -3e38, 0.0), "bfloat16")
