"""Codecs and the flat view: precision, layout, and that any slab can be decoded alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aggregation.codecs.codec import MalformedCode
from aggregation.codecs.registry import CODECS, codec_named, counters_position, difference_bytes
from aggregation.tensors.flat import FLOAT32_MAX, FlatLayout, Piece, add_difference, is_finite, take_difference
from aggregation.tensors.schema import Schema, TensorSpec
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


@settings(max_examples=200)
@given(ANY_FLOAT32)
def test_fp16_rounds_as_torch_does_within_its_range(values: np.ndarray) -> None:
    theirs = torch.from_numpy(values.copy()).to(torch.float16).to(torch.float32).numpy()
    ours = _decoded("fp16", values)
    within = ~np.isnan(values) & (np.isinf(values) | ~np.isinf(theirs))
    assert (ours[within].view(np.uint32) == theirs[within].view(np.uint32)).all()
    beyond = np.isfinite(values) & np.isinf(theirs)
    assert (ours[beyond] == np.copysign(np.float32(65504), values[beyond])).all()
    assert (np.isnan(ours) == np.isnan(values)).all()


def test_fp16_cuts_what_is_too_large_and_loses_what_is_too_small() -> None:
    values = np.array([65519, 65520, -1e30, 6e-8, 2.9e-8, -1e-40, np.inf, -np.inf, np.nan], np.float32)
    expected = np.array([65504, 65504, -65504, 2**-24, 0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    assert _decoded("fp16", values)[:-1].tobytes() == expected[:-1].tobytes()
    assert codec_named("fp16").encode(values)[-2:] == b"\x00\x7e"  # one NaN for all, so equal updates have equal bytes


def _in_bytes_as_float64_has_it(values: np.ndarray) -> np.ndarray:
    """The twin of int8, for values that are finite and normal."""
    blocks = [values[start : start + 256].astype(np.float64) for start in range(0, len(values), 256)]
    exponents = [next(e for e in range(-126, 122) if np.abs(b).max() < 127.5 * 2.0**e or e == 121) for b in blocks]
    units = [b / 2.0**exponent for b, exponent in zip(blocks, exponents, strict=True)]
    parts = [np.rint(b).clip(-127, 127) * 2.0**exponent for b, exponent in zip(units, exponents, strict=True)]
    return np.concatenate(parts)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 5000])
@pytest.mark.parametrize("scale", [1e-44, 1e-36, 1e-3, 1.0, 1e37])
def test_int8_is_what_float64_makes_of_it(length: int, scale: float) -> None:
    random = np.random.default_rng(length)
    values = (random.standard_t(3, length).clip(-9, 9) * scale).astype(np.float32)
    assert (_decoded("int8", values) == _in_bytes_as_float64_has_it(values)).all()


@pytest.mark.parametrize(
    ("greatest", "decoded"),
    [
        (127.0, 127.0),
        (127.49, 127.0),
        (127.5, 128.0),  # it would round to 128 units, so the unit is twice as large
        (FLOAT32_MAX, 127 * 2.0**121),  # there is no unit that is larger
        (1e-45, 0.0),
        (0.0, 0.0),
    ],
)
def test_int8_takes_the_least_unit_that_will_do(greatest: float, decoded: float) -> None:
    assert _decoded("int8", np.array([0.0, -greatest, greatest], np.float32)).tolist() == [0.0, -decoded, decoded]


def test_int8_rounds_to_nearest_ties_to_even() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.500001, 100], np.float32)
    assert _decoded("int8", values).tolist() == [0, 2, 2, 0, -2, 1, 100]


@settings(max_examples=100)
@given(st.binary(min_size=303, max_size=303))
def test_every_code_of_int8_means_something_exact(code: bytes) -> None:
    """Also those that no encoder writes; an infinity is what the checks refuse."""
    ours = codec_named("int8").decode(code, np.empty(301, np.float32))
    for start, octets in ((0, code[:257]), (256, code[257:])):
        exact = np.frombuffer(octets[1:], np.int8).astype(np.float64) * -(2.0 ** (octets[0] - 133))
        if octets[0] == 255:
            assert np.isnan(ours[start : start + 256]).all()
        else:
            with np.errstate(over="ignore"):
                assert (ours[start : start + 256] == exact.astype(np.float32)).all()


def _largest(values: np.ndarray, share: int) -> np.ndarray:
    """The twin of top-k: a stable sort of each block."""
    out = np.zeros_like(values)
    for start in range(0, len(values), 4096):
        block = values[start : start + 4096]
        kept = start + np.argsort(-np.abs(block), kind="stable")[: -(-len(block) // share)]
        out[kept] = torch.from_numpy(values[kept]).to(torch.bfloat16).to(torch.float32).numpy()
    return out


@pytest.mark.parametrize(("name", "share"), [("top10", 10), ("top1", 100)])
@pytest.mark.parametrize("length", [1, 9, 101, 4095, 4096, 4097, 20_001])
def test_top_keeps_the_largest_of_each_block(name: str, share: int, length: int) -> None:
    random = np.random.default_rng(length)
    for values in (random.standard_normal(length), random.integers(-3, 4, length), np.zeros(length)):
        exact = values.astype(np.float32)
        assert (_decoded(name, exact) == _largest(exact, share)).all()
    assert len(codec_named(name).encode(exact)) == codec_named(name).coded_bytes(length)


def test_top_takes_the_first_of_equals() -> None:
    assert np.flatnonzero(_decoded("top10", np.array([1, 2, -2, 2] * 5, np.float32))).tolist() == [1, 2]


def _top_code(*indexes: int) -> bytes:
    """Of 30 values, of which three are kept."""
    return np.array([*indexes, 0x3F80, 0x3F80, 0x3F80], "<u2").tobytes()


@pytest.mark.parametrize("indexes", [(0, 0, 1), (1, 0, 2), (5, 7, 7), (0, 1, 30), (0, 1, 65_535)])
def test_top_refuses_indexes_that_no_encoder_writes(indexes: tuple[int, ...]) -> None:
    codec, out = codec_named("top10"), np.empty(30, np.float32)
    assert np.flatnonzero(codec.decode(_top_code(0, 9, 29), out)).tolist() == [0, 9, 29]
    with pytest.raises(MalformedCode, match="indexes"):
        codec.decode(_top_code(*indexes), out)


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("length", [10, 4096, 9000])
def test_what_is_not_finite_is_seen_after_every_codec(name: str, length: int) -> None:
    for place in (0, length // 2, length - 1):
        for special in (np.nan, -np.nan, np.inf, -np.inf):
            values = np.random.default_rng(1).standard_normal(length).astype(np.float32)
            values[place] = special
            assert not is_finite(_decoded(name, values), "float32")
            assert codec_named(name).encode(values) == codec_named(name).encode(values.copy())


@settings(max_examples=150)
@given(ANY_FLOAT32.filter(len))
def test_coding_what_was_decoded_changes_nothing_more(values: np.ndarray) -> None:
    """So a checkpoint's difference can be made from another's, and a lie is not in the rounding."""
    finite = np.nan_to_num(values)
    for name in CODECS:
        once = _decoded(name, finite)
        assert (_decoded(name, once) == once).all()


@pytest.mark.parametrize("name", sorted(CODECS))
def test_a_difference_of_nothing_leaves_every_bit(name: str) -> None:
    nothing = _decoded(name, np.full(5000, -0.0, np.float32))
    base = np.array([0.0, -0.0, 1e-45, -3.5] * 1250, np.float32)
    assert add_difference("float32", base, nothing).tobytes() == base.tobytes()


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
    with pytest.raises(FednodeError, match=r"no codec 'zip'.*fp32, bf16, fp16, int8, top10, top1"):
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
