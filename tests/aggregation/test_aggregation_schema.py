"""The schema: one byte form, checked at the door, and views of the raw bytes that it describes."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation.tensors.schema import (
    ELEMENT_TYPES,
    MODEL_BYTES_MAX,
    NAME_BYTES_MAX,
    SCHEMA_BYTES_MAX,
    Schema,
    TensorSpec,
)
from protocol.errors import FednodeError, RemoteProtocolError

SMALL = Schema.of(
    [
        TensorSpec("seen", "int64", (), "counter"),
        TensorSpec("layer.weight", "float32", (2, 3), "averaged"),
        TensorSpec("mask", "bool", (2,), "frozen"),
        TensorSpec("norm.bias", "float32", (3,), "local"),
    ]
)
SMALL_BYTES = bytes.fromhex(
    "6665646e6f646520736368656d6120310400000000010"
    "20c006c617965722e7765696768740200000000000000030000000000000001050004007365656e"
    "020d0104006d61736b020000000000000003010109006e6f726d2e626961730300000000000000"
)


def test_the_bytes_of_a_schema_are_these() -> None:
    assert SMALL.to_bytes().hex() == SMALL_BYTES.hex()
    assert SMALL.schema_id == "2851ece9a66bb918487f499325095e8802eda495dfe8c385c8b8082f9d3d8014"


def test_tensors_are_sorted_by_kind_and_keep_their_order_within_one() -> None:
    names = [("c", "frozen"), ("b", "averaged"), ("a", "averaged"), ("d", "local")]
    schema = Schema.of(TensorSpec(name, "float32", (1,), kind) for name, kind in names)
    assert [spec.name for spec in schema.tensors] == ["b", "a", "c", "d"]


def test_sizes_follow_from_the_tensors() -> None:
    assert SMALL.averaged_elements == 6
    assert SMALL.counters_offset == 24
    assert SMALL.counters_bytes == 8
    assert SMALL.model_bytes == 24 + 8 + 2  # what is local is not in a raw model


def test_views_share_memory_with_the_raw_model() -> None:
    raw = bytearray(SMALL.model_bytes)
    views = SMALL.views(raw)
    views["layer.weight"][1, 2] = 7.0
    views["seen"][...] = 5
    assert raw[20:24] == struct.pack("<f", 7.0)
    assert raw[24:32] == struct.pack("<q", 5)
    assert "norm.bias" not in views
    assert not SMALL.views(bytes(raw))["layer.weight"].flags.writeable


def test_raw_of_is_the_inverse_of_views() -> None:
    raw = bytes(range(24)) + bytes(8) + b"\1\0"
    assert SMALL.raw_of(SMALL.views(raw)) == raw
    assert SMALL.raw_of({**SMALL.views(raw), "norm.bias": np.ones(3, np.float32)}) == raw


def test_arrays_of_the_other_byte_order_are_converted() -> None:
    schema = Schema.of_arrays({"w": np.zeros(2, np.float32)})
    assert schema.raw_of({"w": np.array([1.0, 2.0], ">f4")}) == struct.pack("<ff", 1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layer.weight": None}, "'layer.weight' is missing"),
        ({"layer.weight": np.zeros((3, 2), np.float32)}, r"float32 \[3, 2\]; the schema says float32 \[2, 3\]"),
        ({"layer.weight": np.zeros((2, 3))}, r"float64 \[2, 3\]; the schema says float32"),
        ({"more": np.zeros(1)}, "'more' is not in the schema"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(change: dict[str, np.ndarray], complaint: str) -> None:
    arrays = {**SMALL.views(bytes(SMALL.model_bytes)), **change}
    with pytest.raises(FednodeError, match=complaint):
        SMALL.raw_of({name: array for name, array in arrays.items() if array is not None})


def test_a_raw_model_of_another_length_is_refused() -> None:
    for length in (0, SMALL.model_bytes - 1, SMALL.model_bytes + 1):
        with pytest.raises(FednodeError, match="its schema says 34"):
            SMALL.views(bytes(length))


def test_the_kind_follows_from_dtype_and_patterns() -> None:
    arrays = {
        "body.w": np.zeros(2, np.float32),
        "steps": np.zeros((), np.int64),
        "mask": np.zeros(1, bool),
        "bn.mean": np.zeros(1, np.float32),
        "fixed.w": np.zeros(1, np.float64),
    }
    schema = Schema.of_arrays(arrays, local=["bn.*"], frozen=["fixed.*"])
    kinds = {spec.name: spec.kind for spec in schema.tensors}
    assert kinds == {
        "body.w": "averaged",
        "steps": "counter",
        "mask": "frozen",
        "bn.mean": "local",
        "fixed.w": "frozen",
    }


@pytest.mark.parametrize(
    ("specs", "complaint"),
    [
        ([("a", "float32", (1,), "averaged"), ("a", "int64", (1,), "counter")], "two tensors have one name"),
        ([("a", "complex64", (1,), "averaged")], "has dtype complex64"),
        ([("a", "int64", (1,), "averaged")], "cannot be 'averaged'"),
        ([("a", "float32", (1,), "counter")], "cannot be 'counter'"),
        ([("a", "bool", (1,), "counter")], "cannot be 'counter'"),
        ([("", "float32", (1,), "averaged")], "printable name"),
        ([("a\x1b[2J", "float32", (1,), "averaged")], "printable name"),
        ([("ä" * NAME_BYTES_MAX, "float32", (1,), "averaged")], "printable name"),
        ([("a", "float32", (1,) * 9, "averaged")], "has 9 dimensions"),
        ([("a", "float32", (-1,), "averaged")], "a size that no model has"),
        ([("a", "float32", (2**40,), "averaged")], "a size that no model has"),
        ([("a", "float32", (0, 2**60), "averaged")], "a size that no model has"),
        ([("a", "float64", (MODEL_BYTES_MAX // 8 + 1,), "averaged")], "it has more than"),
        ([(f"a{i}", "float32", (2**33,), "averaged") for i in range(3)], "it has more than"),
    ],
)
def test_what_no_model_is_cannot_be_a_schema(specs: list[tuple], complaint: str) -> None:
    with pytest.raises(FednodeError, match=complaint):
        Schema.of(TensorSpec(*spec) for spec in specs)


def _wire(*tensors: tuple[int, int, bytes, tuple[int, ...]], count: int | None = None) -> bytes:
    """The bytes of (kind, dtype code, name, shape) entries, sound or not."""
    parts = [b"fednode schema 1", struct.pack("<I", len(tensors) if count is None else count)]
    for kind, code, name, shape in tensors:
        parts.append(struct.pack("<BBBH", kind, code, len(shape), len(name)) + name)
        parts += [struct.pack("<Q", size) for size in shape]
    return b"".join(parts)


A = (0, 1, b"a", (2,))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "does not begin as one"),
        (b"fednode schema 2" + SMALL_BYTES[16:], "does not begin as one"),
        (SMALL_BYTES[:-1], "cut short"),
        (SMALL_BYTES + b"\0", "1 bytes too many"),
        (bytes(SCHEMA_BYTES_MAX + 1), "over the limit"),
        (_wire(count=70_000), "70000 tensors"),
        (_wire(A, count=2), "cut short"),
        (_wire(A, A), "two tensors have one name"),
        (_wire((1, 5, b"n", ()), A), "not in the order of their kinds"),
        (_wire((9, 1, b"a", (2,))), "cut short or holds"),
        (_wire((0, 99, b"a", (2,))), "cut short or holds"),
        (_wire((0, 1, b"\xff", (2,))), "cut short or holds"),
        (_wire((0, 5, b"a", (2,))), "cannot be 'averaged'"),
        (_wire((0, 1, b"a\n", (2,))), "printable name"),
        (_wire((0, 1, b"a", (2**63, 2**63, 2**63))), "a size that no model has"),
        (_wire((0, 1, b"a", (2**32, 2**32, 0))), "a size that no model has"),
        (_wire((0, 1, b"a", (1,) * 200)), "has 200 dimensions"),
        (_wire(*((0, 1, b"%d" % i, (2**33,)) for i in range(3))), "it has more than"),
    ],
)
def test_a_schema_from_outside_is_checked_at_the_door(data: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        Schema.from_bytes(data)


def _specs() -> st.SearchStrategy[list[TensorSpec]]:
    def spec(name: str, dtype: str, shape: list[int], kind: int) -> TensorSpec:
        kinds = ELEMENT_TYPES[dtype].kinds
        return TensorSpec(name, dtype, tuple(shape), kinds[kind % len(kinds)])

    one = st.builds(
        spec,
        st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=20),
        st.sampled_from(sorted(ELEMENT_TYPES)),
        st.lists(st.integers(0, 4), max_size=4),
        st.integers(0, 2),
    )
    return st.lists(one, max_size=8, unique_by=lambda spec: spec.name)


@given(_specs())
def test_any_schema_survives_its_bytes(specs: list[TensorSpec]) -> None:
    schema = Schema.of(specs)
    again = Schema.from_bytes(schema.to_bytes())
    assert again == schema
    assert again.schema_id == schema.schema_id
    raw = bytes(index % 2 for index in range(schema.model_bytes))
    assert schema.raw_of(schema.views(raw)) == raw


@settings(max_examples=300)
@given(st.integers(0, len(SMALL_BYTES) - 1), st.integers(0, 255))
def test_damaged_bytes_are_refused_or_are_another_schema(place: int, value: int) -> None:
    damaged = bytearray(SMALL_BYTES)
    damaged[place] = value
    try:
        schema = Schema.from_bytes(damaged)
    except RemoteProtocolError:
        return
    assert schema.to_bytes() == bytes(damaged)  # no two byte strings mean one schema
